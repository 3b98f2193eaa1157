//! What a daemon opens and attaches before its tasks start.

use super::Outputs;
use crate::config;
use crate::gunicorn::tree::{Candidate, Pods, Tree};
use crate::http::server;
use crate::http::web_config::Web;
use crate::ingest::record_file::RecordFile;
use crate::ingest::ring::Ring;
use crate::kubernetes::{Cluster, Directory};
use crate::probe::attach;
use crate::probe::bpf_maps::Tables;
use crate::probe::features::Absent;
use crate::probe::generic_io::PlainCalls;
use crate::probe::gil::GilWaits;
use crate::probe::in_flight::InFlightReader;
use crate::probe::interpreters::Interpreters;
use crate::probe::kernel::Types;
use crate::probe::load::{self, Loaded};
use crate::probe::program_stats::{Places, Totals};
use anyhow::{Context as _, Result, bail, ensure};
use observer_model::event::Pid;
use std::net;
use tokio::net::TcpListener;
use tokio::runtime;

/// The masters of these pids; a worker's pid means its master.
pub(super) fn masters(tree: &mut Tree, pids: &[Pid]) -> Result<Vec<Pid>> {
    pids.iter().map(|&pid| master(tree, pid)).collect()
}

fn master(tree: &mut Tree, pid: Pid) -> Result<Pid> {
    match tree.inspect_candidate(pid) {
        Candidate::Master(_) => Ok(pid),
        Candidate::WorkerOf(master) => Ok(master),
        Candidate::Refused { reason } => bail!("cannot observe process {pid}: {reason}"),
        _ if tree.procfs().process(pid).is_err() => {
            bail!("there is no process {pid}; `gunicorn-observer list` shows running masters")
        }
        Candidate::NotReady { reason, .. } => {
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

/// The loaded and attached programs, in the parts that the engine and the watcher have.
pub(super) struct Attached {
    pub readers: Readers,
    pub programs: Programs,
}

/// What the engine reads.
pub(super) struct Readers {
    pub ring: Ring,
    pub totals: Totals,
    pub in_flight: InFlightReader,
    /// With `--gil`.
    pub gil: Option<GilWaits>,
}

/// What the watcher attaches and fills.
pub(super) struct Programs {
    pub tables: Tables,
    pub interpreters: Interpreters,
    pub plain_calls: PlainCalls,
}

impl Attached {
    /// Loads the programs and attaches those of the host.
    pub(super) fn attach(observe: &config::Observe) -> Result<Self> {
        let types = Types::read(observe.btf.as_deref())?;
        let Loaded {
            mut ebpf,
            mut absent,
            ..
        } = load::load(&types)?;
        #[cfg(feature = "probe-log")]
        crate::probe::log::start(&mut ebpf)?;
        let places = Places {
            gil: observe.gil.into(),
            ..Places::default()
        };
        let gil = observe.gil.then(|| GilWaits::of(&mut ebpf)).transpose()?;
        let mut host = attach::attach_host(&mut ebpf, &mut absent)?;
        if observe.gil {
            host.extend(attach::attach_gil(&mut ebpf, &mut absent)?);
        }
        log_absent(&absent);
        let readers = Readers {
            ring: Ring::take(&mut ebpf)?,
            totals: Totals::take(&mut ebpf, places.clone(), &absent)?,
            in_flight: InFlightReader::new(&ebpf)?,
            gil,
        };
        let programs = Programs {
            tables: Tables::take(&mut ebpf)?,
            interpreters: Interpreters::new(ebpf, host, places.interpreters),
            plain_calls: PlainCalls::new(places.plain_calls),
        };
        Ok(Self { readers, programs })
    }
}

fn log_absent(absent: &Absent) {
    for (feature, refusal) in absent.iter() {
        tracing::warn!(
            feature = feature.name,
            reason = refusal.why,
            effect = feature.without,
            "feature unavailable"
        );
    }
}
