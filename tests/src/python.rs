//! An interpreter and the Gunicorn it runs.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{process, venv::Venv};

/// What runs Gunicorn, and how it is started.
#[derive(Clone, Debug)]
pub struct Python {
    /// The interpreter, in its root if it has one.
    program: PathBuf,
    /// Gunicorn's script.
    script: PathBuf,
    /// Folders of packages beside its own.
    path: Vec<PathBuf>,
    /// The root it runs in instead of the host's.
    root: Option<PathBuf>,
}

/// Becomes the program `$4 …` in a mount namespace and a root of its own: an overlay over the
/// folder `$1`, as containers have it. `$2` is a folder that both sides see and where the layers
/// are; `$3` lists others, one a line.
const CONTAINER: &str = r#"
set -e
lower=$1 shared=$2 folders=$3
shift 3
layers=$shared/layers
mkdir "$layers"
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$layers/root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
mkdir -p "$layers/root/proc" "$layers/root/dev" "$layers/root/tmp"
mount -t proc proc "$layers/root/proc"
mount --rbind /dev "$layers/root/dev"
echo "$shared
$folders" | while read -r folder; do
    mkdir -p "$layers/root$folder"
    mount --bind "$folder" "$layers/root$folder"
done
cd "$shared"
exec chroot "$layers/root" "$@"
"#;

impl Python {
    /// This interpreter, with the Gunicorn and what it needs of these folders.
    #[must_use]
    pub fn new(program: PathBuf, gunicorn: &Path, packages: &Path) -> Self {
        Self {
            program,
            script: gunicorn.join("bin/gunicorn"),
            path: vec![gunicorn.to_owned(), packages.to_owned()],
            root: None,
        }
    }

    /// It runs in a mount namespace of its own, in an overlay over this root.
    #[must_use]
    pub fn in_root(self, root: &Path) -> Self {
        Self {
            root: Some(root.to_owned()),
            ..self
        }
    }

    /// The command that becomes Gunicorn in the folder `shared`, and sees also `folders`.
    pub(crate) fn command(&self, shared: &Path, folders: &[&Path]) -> Command {
        let mut command = match &self.root {
            None => process::bound_to_us(&self.program),
            Some(root) => {
                let folders = folders.iter().copied().map(Path::as_os_str);
                let packages = self.path.iter().map(|folder| folder.as_os_str());
                let lines: Vec<_> = folders.chain(packages).collect();
                let mut command = process::bound_to_us("unshare");
                command
                    .args(["--mount", "sh", "-c", CONTAINER, "sh"])
                    .args([root, shared])
                    .arg(lines.join(OsStr::new("\n")))
                    .arg(&self.program);
                command
            }
        };
        command
            .arg(&self.script)
            .current_dir(shared)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if !self.path.is_empty() {
            let path: Vec<_> = self.path.iter().map(|folder| folder.as_os_str()).collect();
            command.env("PYTHONPATH", path.join(OsStr::new(":")));
        }
        command
    }
}

impl From<&Venv> for Python {
    fn from(venv: &Venv) -> Self {
        Self {
            program: venv.program("python"),
            script: venv.program("gunicorn"),
            path: Vec::new(),
            root: None,
        }
    }
}
