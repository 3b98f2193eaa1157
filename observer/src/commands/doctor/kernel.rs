//! Features and eBPF programs on this kernel.

use crate::probe::Programs;
use crate::probe::programs::Load;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Kernel {
    pub features: Vec<Feature>,
    /// Only with `--verbose`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<Program>>,
}

/// Something that the observer reports.
#[derive(Debug, Serialize)]
pub struct Feature {
    pub name: &'static str,
    pub ok: bool,
    /// Why it is absent; else empty.
    pub why: observer_model::Untrusted,
    /// What is missing without it.
    pub without: &'static str,
}

#[derive(Debug, Serialize)]
pub struct Program {
    pub name: &'static str,
    pub feature: &'static str,
    pub ok: bool,
    /// Instructions that the verifier walked; unknown before Linux 5.16.
    pub walked: Option<u64>,
    pub load_us: u64,
    /// The verifier's log of a refused program; else empty.
    pub log: String,
}

impl Kernel {
    /// Of what was loaded, with each program if those are asked for.
    pub fn of(programs: &Programs, verbose: bool) -> Self {
        let features = programs.features().iter().map(|feature| {
            let refusal = programs.absent().why(feature);
            Feature {
                name: feature.name,
                ok: refusal.is_none(),
                why: refusal
                    .map(|refusal| refusal.why.as_str().into())
                    .unwrap_or_default(),
                without: feature.without,
            }
        });
        let left_out = programs.left_out().iter().map(|feature| Feature {
            name: feature.name,
            ok: false,
            why: "left out by --probes entry-exit".into(),
            without: feature.without,
        });
        let loads = || programs.loads().iter();
        Self {
            features: features.chain(left_out).collect(),
            programs: verbose.then(|| loads().map(|load| Program::of(programs, load)).collect()),
        }
    }
}

impl Program {
    fn of(programs: &Programs, load: &Load) -> Self {
        let info = programs.info(load.program);
        let refusal = programs.absent().why(load.feature);
        let refusal = refusal.filter(|refusal| refusal.program == load.program);
        Self {
            name: load.program,
            feature: load.feature.name,
            ok: info.is_some(),
            walked: info.and_then(|info| info.walked()),
            load_us: load.took_ns / 1000,
            log: refusal
                .map(|refusal| refusal.log.clone())
                .unwrap_or_default(),
        }
    }
}
