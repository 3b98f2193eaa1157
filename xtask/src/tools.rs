//! Programs that building and testing take, and requirements on the kernel.

use std::{fs, path::Path};

use crate::{
    command, packages,
    step::{Check, Step},
    toolchain::LLVM_MAJOR,
};

const BPF_LINKER_VERSION: &str = "0.13.0";
const LLVM_PACKAGES: &[&str] = &["llvm-22-dev", "libpolly-22-dev", "gcc", "libc6-dev", "g++"];

pub const BPF_LINKER: Step = Step {
    name: "bpf-linker",
    why: "It makes one eBPF object of the compiler's bitcode. About a minute.",
    check: |_| match command::output("bpf-linker", &["--version"]) {
        Some(version) if version.ends_with(BPF_LINKER_VERSION) => Check::Present(version),
        found => Check::missing(
            found.map_or_else(
                || "`bpf-linker` does not run".into(),
                |found| format!("found {found}, {BPF_LINKER_VERSION} is needed"),
            ),
            format!(
                "{}, then LLVM_PREFIX=/usr/lib/llvm-{LLVM_MAJOR} cargo install bpf-linker \
                 --version {BPF_LINKER_VERSION} --no-default-features --features llvm-{LLVM_MAJOR} \
                 --locked; have ~/.cargo/bin in PATH",
                packages::fix(LLVM_PACKAGES)
            ),
        ),
    },
    make: Some(|_| {
        let prefix = format!("/usr/lib/llvm-{LLVM_MAJOR}");
        let prefix = Path::new(&prefix);
        let present = prefix.join("bin/llvm-config").exists()
            && prefix.join("lib/libPolly.a").exists()
            && command::output("g++", &["--version"]).is_some();
        if !present {
            packages::install(LLVM_PACKAGES)?;
        }
        command::run(command::cargo().env("LLVM_PREFIX", prefix).args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER_VERSION,
            "--no-default-features",
            "--features",
            &format!("llvm-{LLVM_MAJOR}"),
            "--locked",
            "--force",
        ]))
    }),
};

pub const CARGO_DENY: Step = Step {
    name: "cargo-deny",
    why: "It checks licences and advisories of what we depend on. About two minutes.",
    check: |_| match command::output("cargo", &["deny", "--version"]) {
        Some(version) => Check::Present(version),
        None => Check::missing(
            "`cargo deny` does not run",
            "cargo install cargo-deny --locked --debug",
        ),
    },
    make: Some(|_| {
        command::run(command::cargo().args(["install", "cargo-deny", "--locked", "--debug"]))
    }),
};

const CARGO_FUZZ_VERSION: &str = "0.13.2";

pub const CARGO_FUZZ: Step = Step {
    name: "cargo-fuzz",
    why: "It builds the fuzz targets. About a minute.",
    check: |_| match command::output("cargo", &["fuzz", "--version"]) {
        Some(version) if version.ends_with(CARGO_FUZZ_VERSION) => Check::Present(version),
        found => Check::missing(
            found.map_or_else(
                || "`cargo fuzz` does not run".into(),
                |found| format!("found {found}, {CARGO_FUZZ_VERSION} is needed"),
            ),
            format!("cargo install cargo-fuzz --version {CARGO_FUZZ_VERSION} --locked --debug"),
        ),
    },
    make: Some(|_| {
        command::run(command::cargo().args([
            "install",
            "cargo-fuzz",
            "--version",
            CARGO_FUZZ_VERSION,
            "--locked",
            "--debug",
            "--force",
        ]))
    }),
};

const CARGO_DEB_VERSION: &str = "3.8.0";

pub const CARGO_DEB: Step = Step {
    name: "cargo-deb",
    why: "It makes the Debian package. About a minute.",
    check: |_| match command::output("cargo", &["deb", "--version"]) {
        Some(version) if version.ends_with(CARGO_DEB_VERSION) => Check::Present(version),
        found => Check::missing(
            found.map_or_else(
                || "`cargo deb` does not run".into(),
                |found| format!("found {found}, {CARGO_DEB_VERSION} is needed"),
            ),
            format!("cargo install cargo-deb --version {CARGO_DEB_VERSION} --locked --debug"),
        ),
    },
    make: Some(|_| {
        command::run(command::cargo().args([
            "install",
            "cargo-deb",
            "--version",
            CARGO_DEB_VERSION,
            "--locked",
            "--debug",
            "--force",
        ]))
    }),
};

const PACKAGING_PACKAGES: &[&str] = &["dpkg-dev", "binutils"];

pub const PACKAGING: Step = Step {
    name: "packaging",
    why: "dpkg-shlibdeps finds what the package depends on, objcopy strips the program.",
    check: |_| {
        let missing = ["dpkg-shlibdeps", "objcopy"]
            .into_iter()
            .find(|program| command::output(program, &["--version"]).is_none());
        match missing {
            None => Check::Present("dpkg-shlibdeps, objcopy".to_owned()),
            Some(program) => Check::missing(
                format!("`{program}` does not run"),
                packages::fix(PACKAGING_PACKAGES),
            ),
        }
    },
    make: Some(|_| packages::install(PACKAGING_PACKAGES)),
};

const CONTAINER_PACKAGES: &[&str] = &["runc", "iproute2"];

pub const CONTAINERS: Step = Step {
    name: "containers",
    why: "The tests observe Gunicorn in containers and network namespaces of its own.",
    check: |_| {
        let runc = command::output("runc", &["--version"]);
        match (runc, command::output("ip", &["-Version"])) {
            (Some(runc), Some(_)) => {
                Check::Present(runc.lines().next().unwrap_or_default().to_owned())
            }
            (runc, ip) => {
                let missing = [(runc.is_none(), "runc"), (ip.is_none(), "ip")];
                let missing = missing.iter().filter(|(missing, _)| *missing);
                let names: Vec<_> = missing.map(|(_, name)| *name).collect();
                Check::missing(
                    format!("`{}` does not run", names.join("` and `")),
                    packages::fix(CONTAINER_PACKAGES),
                )
            }
        }
    },
    make: Some(|_| packages::install(CONTAINER_PACKAGES)),
};

const NGINX_PACKAGES: &[&str] = &["nginx-light"];

pub const NGINX: Step = Step {
    name: "nginx",
    why: "The tests observe Gunicorn behind it.",
    // Debian installs it outside of other users' PATH.
    check: |_| match Path::new("/usr/sbin/nginx") {
        path if path.exists() => Check::Present(path.display().to_string()),
        path => Check::missing(
            format!("{} does not exist", path.display()),
            packages::fix(NGINX_PACKAGES),
        ),
    },
    make: Some(|_| packages::install(NGINX_PACKAGES)),
};

const BROWSER_PACKAGES: &[&str] = &["chromium", "chromium-driver"];

pub const BROWSER: Step = Step {
    name: "browser",
    why: "The tests look at the dashboard as people do.",
    check: |_| {
        let missing = ["/usr/bin/chromium", "/usr/bin/chromedriver"]
            .into_iter()
            .find(|path| !Path::new(path).exists());
        if let Some(path) = missing {
            return Check::missing(
                format!("{path} does not exist"),
                packages::fix(BROWSER_PACKAGES),
            );
        }
        match command::output("/usr/bin/chromedriver", &["--version"]) {
            Some(version) => Check::Present(version),
            None => Check::missing(
                "`chromedriver` does not run",
                packages::fix(BROWSER_PACKAGES),
            ),
        }
    },
    make: Some(|_| packages::install(BROWSER_PACKAGES)),
};

const GROFF_PACKAGES: &[&str] = &["groff-base"];

pub const GROFF: Step = Step {
    name: "groff",
    why: "The tests set the man pages with it.",
    check: |_| match command::output("groff", &["--version"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing("`groff` does not run", packages::fix(GROFF_PACKAGES)),
    },
    make: Some(|_| packages::install(GROFF_PACKAGES)),
};

pub const SYSTEMD: Step = Step {
    name: "systemd-analyze",
    why: "The tests look at the unit with it. It need not run this machine.",
    check: |_| match command::output("systemd-analyze", &["--version"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing(
            "`systemd-analyze` does not run",
            packages::fix(&["systemd"]),
        ),
    },
    make: Some(|_| packages::install(&["systemd"])),
};

pub const STRACE: Step = Step {
    name: "strace",
    why: "The tests see with it which system calls the observer makes.",
    check: |_| match command::output("strace", &["--version"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing("`strace` does not run", packages::fix(&["strace"])),
    },
    make: Some(|_| packages::install(&["strace"])),
};

const QEMU_PACKAGES: &[&str] = &["qemu-system-x86"];

pub const QEMU: Step = Step {
    name: "qemu",
    why: "The tests boot other kernels in it, by translation: nothing of the machine's is needed.",
    check: |_| match command::output("qemu-system-x86_64", &["--version"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing(
            "`qemu-system-x86_64` does not run",
            packages::fix(QEMU_PACKAGES),
        ),
    },
    make: Some(|_| packages::install(QEMU_PACKAGES)),
};

pub const VALGRIND: Step = Step {
    name: "valgrind",
    why: "It counts the instructions of what the observer does.",
    check: |_| match command::output("valgrind", &["--version"]) {
        Some(version) => Check::Present(version),
        None => Check::missing("`valgrind` does not run", packages::fix(&["valgrind"])),
    },
    make: Some(|_| packages::install(&["valgrind"])),
};

pub const TMUX: Step = Step {
    name: "tmux",
    why: "The tests press keys of `gunicorn-observer top` in it, and look at its screen.",
    check: |_| match command::output("tmux", &["-V"]) {
        Some(version) => Check::Present(version.trim().to_owned()),
        None => Check::missing("`tmux` does not run", packages::fix(&["tmux"])),
    },
    make: Some(|_| packages::install(&["tmux"])),
};

pub const PYPY: Step = Step {
    name: "PyPy",
    why: "The tests observe Gunicorn on an interpreter that is not read.",
    check: |_| match command::output("pypy3", &["--version"]) {
        Some(version) => Check::Present(version.lines().last().unwrap_or_default().to_owned()),
        None => Check::missing("`pypy3` does not run", packages::fix(&["pypy3"])),
    },
    make: Some(|_| packages::install(&["pypy3"])),
};

pub const KERNEL_TYPES: Step = Step {
    name: "kernel type information",
    why: "The offsets of kernel structures are read from it.",
    check: |_| {
        let path = "/sys/kernel/btf/vmlinux";
        if Path::new(path).exists() {
            Check::Present(path.into())
        } else {
            Check::missing(
                format!("{path} does not exist"),
                "run a kernel 5.10 or later that is built with CONFIG_DEBUG_INFO_BTF=y",
            )
        }
    },
    make: None,
};

pub const TRACEFS: Step = Step {
    name: "tracefs",
    why: "Tracepoints are found there. The observer mounts its own; the kernel must have it.",
    check: |_| {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if known
            .lines()
            .any(|line| line.split_whitespace().next_back() == Some("tracefs"))
        {
            Check::Present("the kernel has it".into())
        } else {
            Check::missing(
                "the kernel has no tracefs",
                "run a kernel that is built with CONFIG_FTRACE=y",
            )
        }
    },
    make: None,
};

const CROSS_PACKAGES: &[&str] = &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];

pub const CROSS_COMPILER: Step = Step {
    name: "compiler for aarch64",
    why: "What is compiled for aarch64 has C and assembly of ring's in it.",
    check: |_| match command::output("aarch64-linux-gnu-gcc", &["--version"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing(
            "`aarch64-linux-gnu-gcc` does not run",
            packages::fix(CROSS_PACKAGES),
        ),
    },
    make: Some(|_| packages::install(CROSS_PACKAGES)),
};

const CURL_PACKAGES: &[&str] = &["curl"];

pub const CURL: Step = Step {
    name: "curl",
    why: "The tests ask over TLS with it.",
    check: |_| match command::output("curl", &["--version"]) {
        Some(version) => Check::Present(version.lines().next().unwrap_or_default().to_owned()),
        None => Check::missing("`curl` does not run", packages::fix(CURL_PACKAGES)),
    },
    make: Some(|_| packages::install(CURL_PACKAGES)),
};
