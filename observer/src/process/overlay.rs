//! Which file is below one that is seen through overlayfs.

use std::fs::{self, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// More is not read: a node with thousands of containers has less.
const MAX_BYTES: u64 = 8 << 20;

/// The file that an overlay shows to a process as `path`, found where the mount says its layers
/// are, in the root of the host. `None` when they are not there: a container within a container,
/// or a layer that was hidden since.
pub(super) fn below(proc_root: &Path, pid: u32, path: &Path, seen: &Metadata) -> Option<Metadata> {
    let file = fs::File::open(proc_root.join(format!("{pid}/mountinfo"))).ok()?;
    let mut mounts = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut mounts).ok()?;
    let (within, layers) = layers(&mounts, path)?;
    // Where the mount was made: by the host, whose root the first process has, also when ours is
    // that of a container; hardened hosts do not let us in there, but outside of containers we have
    // the same.
    let roots = ["1/root", "self/root"].map(|root| proc_root.join(root));
    layers
        .iter()
        .filter_map(|layer| layer.strip_prefix("/").ok())
        .flat_map(|layer| roots.each_ref().map(|root| root.join(layer).join(&within)))
        .filter_map(|path| fs::metadata(path).ok())
        .find(|found| is_shown_as(found, seen))
}

/// All that an overlay shows of the file below is that file's own but its device, and for some
/// mounts its number (`Documentation/filesystems/overlayfs.rst`, "Inode properties").
fn is_shown_as(file: &Metadata, seen: &Metadata) -> bool {
    let known = |of: &Metadata| {
        let changed = (of.ctime(), of.ctime_nsec());
        (of.len(), of.mtime(), of.mtime_nsec(), changed, of.mode())
    };
    file.is_file() && known(file) == known(seen)
}

/// Where a path is in each layer, and the layers of the mount that it is on, the upper one first,
/// from `/proc/<pid>/mountinfo` (`proc_pid_mountinfo(5)`). `None` when that is no overlay.
fn layers(mounts: &[u8], path: &Path) -> Option<(PathBuf, Vec<PathBuf>)> {
    let mut found = None;
    let mut deepest = 0;
    for line in mounts.split(|&byte| byte == b'\n') {
        let Some(mount) = Mount::of(line) else {
            continue;
        };
        let depth = mount.point.as_os_str().len();
        // Of two mounts at one place the later one is seen.
        if path.starts_with(&mount.point) && depth >= deepest {
            deepest = depth;
            found = Some(mount);
        }
    }
    let mount = found.filter(|mount| mount.kind == b"overlay")?;
    let root = mount.root.strip_prefix("/").ok()?;
    let within = root.join(path.strip_prefix(&mount.point).ok()?);
    let layers = mount.layers();
    (!layers.is_empty()).then_some((within, layers))
}

/// A line of `mountinfo`.
struct Mount<'a> {
    /// What of the file system is seen there.
    root: PathBuf,
    point: PathBuf,
    kind: &'a [u8],
    options: &'a [u8],
}

impl<'a> Mount<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        let root = unescaped(fields.nth(3)?);
        let point = unescaped(fields.next()?);
        // Optional fields end with a `-`.
        fields.find(|&field| field == b"-")?;
        Some(Self {
            root,
            point,
            kind: fields.next()?,
            options: fields.nth(1)?,
        })
    }

    /// `lowerdir` names all lower layers, with colons between them; `lowerdir+`, given many
    /// times, one each.
    fn layers(&self) -> Vec<PathBuf> {
        let mut layers = Vec::new();
        for option in self.options.split(|&byte| byte == b',') {
            if let Some(upper) = option.strip_prefix(b"upperdir=") {
                layers.insert(0, unescaped(upper));
            } else if let Some(lower) = option.strip_prefix(b"lowerdir=") {
                layers.extend(lower.split(|&byte| byte == b':').map(unescaped));
            } else if let Some(lower) = option.strip_prefix(b"lowerdir+=") {
                layers.push(unescaped(lower));
            }
        }
        layers
    }
}

/// The kernel writes what would end a field as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.first_chunk::<3>().filter(|_| *first == b'\\');
        let byte = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = br"21 1 259:1 / / rw,relatime - ext4 /dev/root rw
616 604 0:84 / / rw,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/lib/l/A:/lib/l/B\0402,upperdir=/lib/7/diff,workdir=/lib/7/work,nouserxattr
617 616 0:90 /part /srv/app rw - overlay none rw,lowerdir+=/one,lowerdir+=/two
618 616 0:91 / /srv/data rw - tmpfs tmpfs rw
";

    #[test]
    fn layers_are_those_of_the_mount_that_the_path_is_on() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let (within, found) = layers(MOUNTS, Path::new("/usr/bin/python3.12")).unwrap();
        assert_eq!(within, Path::new("usr/bin/python3.12"));
        assert_eq!(found, paths(&["/lib/7/diff", "/lib/l/A", "/lib/l/B 2"]));
        let (within, found) = layers(MOUNTS, Path::new("/srv/app/bin/python")).unwrap();
        assert_eq!(within, Path::new("part/bin/python"));
        assert_eq!(found, paths(&["/one", "/two"]));
        assert_eq!(layers(MOUNTS, Path::new("/srv/data/python")), None);
    }

    #[test]
    fn the_file_below_is_of_the_first_layer_that_has_the_one_seen() {
        let proc_root = tempfile::tempdir().unwrap();
        let host = proc_root.path().join("1/root");
        let file = |layer: &str, text: &str| {
            let path = host.join(layer).join("bin/python");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::metadata(path).unwrap()
        };
        file("upper", "another");
        let lower = file("lower", "python");
        fs::create_dir_all(proc_root.path().join("7")).unwrap();
        let mounts = "1 1 0:1 / / rw - overlay none rw,lowerdir=/no:/lower,upperdir=/upper\n";
        fs::write(proc_root.path().join("7/mountinfo"), mounts).unwrap();

        let path = Path::new("/bin/python");
        let found = below(proc_root.path(), 7, path, &lower).unwrap();
        assert_eq!((found.dev(), found.ino()), (lower.dev(), lower.ino()));
        fs::remove_dir_all(host.join("lower")).unwrap();
        assert!(below(proc_root.path(), 7, path, &lower).is_none());
        assert!(below(proc_root.path(), 8, path, &lower).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(mounts: Vec<u8>) {
            let _ = layers(&mounts, Path::new("/bin/python"));
            assert!(unescaped(&mounts).as_os_str().len() <= mounts.len());
        }
    }
}
