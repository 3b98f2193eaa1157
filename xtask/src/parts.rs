//! The parts of the tests, each with the set-up steps that it needs.

use clap::ValueEnum;

use crate::{interpreters, kubernetes, prometheus, python, step::Step, toolchain, tools, wheels};

/// Builds the observer.
pub const BUILD: &[Step] = &[toolchain::BPF_TOOLCHAIN, tools::BPF_LINKER];

/// Runs the observer over a Gunicorn.
pub const RUN: &[Step] = &[
    python::INTERPRETER,
    python::ENVIRONMENTS,
    tools::KERNEL_TYPES,
    tools::TRACEFS,
];

/// Packages the observer.
pub const PACKAGE: &[Step] = &[tools::CARGO_DEB, tools::PACKAGING];

/// Renders the Helm chart.
pub const CHART: &[Step] = &[python::INTERPRETER, kubernetes::HELM];

const RUST: &[Step] = &[toolchain::HOST_COMPONENTS];

const LINT: &[Step] = &[
    toolchain::BPF_TOOLCHAIN,
    toolchain::BPF_CLIPPY,
    tools::CARGO_DENY,
    tools::CROSS_COMPILER,
];

const FUZZ: &[Step] = &[tools::CARGO_FUZZ];

const COST: &[Step] = &[tools::KERNEL_TYPES, tools::VALGRIND];

/// Every interpreter, Gunicorn and framework.
pub const MATRIX: &[Step] = &[interpreters::INTERPRETERS_STEP, wheels::WHEELS];

const PRIVILEGED: &[Step] = &[
    tools::CONTAINERS,
    tools::NGINX,
    tools::BROWSER,
    tools::TMUX,
    tools::PYPY,
    tools::GROFF,
    tools::CURL,
    tools::SYSTEMD,
    tools::STRACE,
    prometheus::PROMETHEUS,
    kubernetes::HELM,
];

const VM: &[Step] = &[tools::QEMU];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Format, clippy of both sides, rustdoc, retired words, dependencies
    Lint,
    /// Tests that need no root
    Unit,
    /// Each fuzz target for ten seconds
    Fuzz,
    /// Instructions of userspace and programs, compared with xtask/cost.toml; root for the programs
    Cost,
    /// Tests that load probes and observe real Gunicorns; needs root
    Privileged,
    /// Linux 5.10 and 6.1, in guests
    Vm,
    /// Every interpreter with every Gunicorn and worker class, as a table; needs root
    Matrix,
    /// Every way a request fails under every framework, as a table; needs root
    Errors,
    /// All parts, each in full; needs root
    All,
}

struct Row {
    part: Part,
    name: &'static str,
    steps: &'static [&'static [Step]],
    /// It fails without root. Other parts leave out what needs it.
    needs_root: bool,
}

const fn row(part: Part, name: &'static str, steps: &'static [&'static [Step]]) -> Row {
    Row {
        part,
        name,
        steps,
        needs_root: false,
    }
}

const fn as_root(row: Row) -> Row {
    Row {
        needs_root: true,
        ..row
    }
}

const ROWS: [Row; 9] = [
    row(Part::Lint, "lint", &[RUST, LINT]),
    row(Part::Unit, "unit", &[]),
    row(Part::Fuzz, "fuzz", &[FUZZ]),
    row(Part::Cost, "cost", &[BUILD, COST]),
    as_root(row(
        Part::Privileged,
        "privileged",
        &[BUILD, RUN, PACKAGE, MATRIX, PRIVILEGED],
    )),
    row(Part::Vm, "vm", &[BUILD, RUN, VM]),
    as_root(row(Part::Matrix, "matrix", &[BUILD, RUN, MATRIX])),
    as_root(row(Part::Errors, "errors", &[BUILD, RUN, MATRIX])),
    as_root(row(Part::All, "all", EVERYTHING)),
];

const EVERYTHING: &[&[Step]] = &[
    RUST, BUILD, RUN, PACKAGE, LINT, FUZZ, COST, MATRIX, PRIVILEGED, VM,
];

impl Part {
    fn row(self) -> &'static Row {
        let found = ROWS.iter().find(|row| row.part == self);
        found.unwrap_or(&ROWS[0])
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn needs_root(self) -> bool {
        self.row().needs_root
    }

    /// The steps this part needs, each once.
    pub fn steps(self) -> Vec<&'static Step> {
        once(self.row().steps)
    }
}

/// The steps of every part, each once.
pub fn all_steps() -> Vec<&'static Step> {
    once(EVERYTHING)
}

/// The steps of these lists, each once.
pub fn once(lists: &[&'static [Step]]) -> Vec<&'static Step> {
    let mut steps: Vec<&Step> = Vec::new();
    for step in lists.iter().flat_map(|list| list.iter()) {
        if !steps.iter().any(|known| known.name == step.name) {
            steps.push(step);
        }
    }
    steps
}
