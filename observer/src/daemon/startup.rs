//! What a daemon opens and attaches before its tasks start.

use super::Outputs;
use crate::config;
use crate::cpython::error::REASON_CHARS;
use crate::gunicorn::tree::{Candidate, Pods, Tree};
use crate::http::server;
use crate::http::web_config::Web;
use crate::ingest::record_file::RecordFile;
use crate::ingest::ring::Ring;
use crate::kubernetes::{Cluster, Directory};
use crate::probe::Programs;
use crate::probe::gil::GilWaits;
use crate::probe::in_flight::InFlightReader;
use crate::probe::kernel::Types;
use crate::probe::load;
use crate::probe::program_stats::ProgramStats;
use anyhow::{Context as _, Result, bail, ensure};
use observer_model::event::Pid;
use std::net;
use std::thread;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime;

/// How long a process has to become a master: while it starts, or starts its workers, it may change
/// under the reader's eyes.
const SETTLES: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(50);

/// The masters of these pids; a worker's pid means its master.
pub(super) fn masters(tree: &mut Tree, pids: &[Pid]) -> Result<Vec<Pid>> {
    pids.iter().map(|&pid| master(tree, pid)).collect()
}

/// What a process is, once that is clear or it had its time.
fn settled(tree: &mut Tree, pid: Pid) -> Candidate {
    let start = Instant::now();
    loop {
        let found = tree.inspect_candidate(pid);
        let is_unsettled = matches!(found, Candidate::NotReady { .. });
        if !is_unsettled || start.elapsed() >= SETTLES || tree.procfs().process(pid).is_err() {
            return found;
        }
        thread::sleep(STEP);
    }
}

fn master(tree: &mut Tree, pid: Pid) -> Result<Pid> {
    match settled(tree, pid) {
        Candidate::Master(_) => Ok(pid),
        Candidate::WorkerOf(master) => Ok(master),
        Candidate::Refused { reason } => {
            let reason = reason.for_terminal(REASON_CHARS);
            bail!("cannot observe process {pid}: {reason}")
        }
        _ if tree.procfs().process(pid).is_err() => {
            bail!("there is no process {pid}; `gunicorn-observer list` shows running masters")
        }
        Candidate::NotReady { reason, .. } => {
            let reason = reason.for_terminal(REASON_CHARS);
            bail!("process {pid} is not a running Gunicorn master yet: {reason}; try again")
        }
        Candidate::NotGunicorn => bail!(
            "process {pid} is not a Gunicorn master or worker; `gunicorn-observer list` shows \
             running masters"
        ),
    }
}

/// Files and addresses, opened while the process still has every capability.
pub(super) struct Opened {
    pub served: Option<Served>,
    pub record: Option<RecordFile>,
}

impl Opened {
    pub(super) fn open(outputs: &Outputs<'_>) -> Result<Self> {
        Ok(Self {
            served: outputs.metrics.map(Served::open).transpose()?,
            record: outputs.record.map(RecordFile::create).transpose()?,
        })
    }
}

/// An address that is listened on, and the rules for its clients.
pub(super) struct Served {
    listener: net::TcpListener,
    web: Web,
}

impl Served {
    fn open(serve: &config::Serve) -> Result<Self> {
        let web = Web::open(serve.web_config.as_deref())?;
        // The listener outlives this runtime: it is taken out of it.
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start the runtime")?;
        let listener = runtime.block_on(server::bind(&serve.listen))?.into_std()?;
        Ok(Self { listener, web })
    }

    /// For the runtime that this is called in.
    pub(super) fn into_async(self) -> Result<(TcpListener, Web)> {
        let listener = TcpListener::from_std(self.listener).context("cannot listen")?;
        Ok((listener, self.web))
    }
}

/// The URL of the dashboard; metrics are at `/metrics` below it.
pub(super) fn url(listener: &TcpListener, web: &Web) -> Result<String> {
    let address = listener.local_addr().context("cannot read the address")?;
    Ok(format!("{}://{address}/", web.scheme()))
}

/// Names of pods, and the cluster they are asked for with `--kubernetes`.
pub(super) async fn pods(observe: &config::Observe) -> Result<(Pods, Option<Cluster>)> {
    let pods = Pods {
        directory: Directory::default(),
        node: observe.node_name.clone().unwrap_or_default(),
    };
    if !observe.kubernetes {
        return Ok((pods, None));
    }
    ensure!(
        !pods.node.is_empty(),
        "--kubernetes needs the name of this node; pass --node-name, in a pod from the field \
         spec.nodeName"
    );
    Ok((pods, Some(Cluster::connect().await?)))
}

/// The programs, and what the engine reads of them.
pub(super) struct Attached {
    pub readers: Readers,
    pub programs: Programs,
}

/// What the engine reads.
pub(super) struct Readers {
    pub ring: Ring,
    pub totals: ProgramStats,
    pub in_flight: InFlightReader,
    /// With `--gil`.
    pub gil: Option<GilWaits>,
}

impl Attached {
    /// Loads the programs and attaches those of the host. Who waits for a server waits for no rare
    /// programs: they are loaded later.
    pub(super) fn attach(observe: &config::Observe, is_server: bool) -> Result<Self> {
        let types = Types::read(observe.host.btf.as_deref())?;
        let mut programs = load::load(&types, observe.host.probes)?;
        #[cfg(feature = "probe-log")]
        programs.start_log()?;
        let gil = observe.gil.then(|| programs.take_gil_waits()).transpose()?;
        programs.attach_host(observe.gil)?;
        if !is_server {
            programs.load_late();
        }
        let readers = Readers {
            ring: Ring::new(programs.take_ring()?, programs.take_alarm()?)?,
            totals: programs.take_stats()?,
            in_flight: programs.in_flight()?,
            gil,
        };
        Ok(Self { readers, programs })
    }
}
