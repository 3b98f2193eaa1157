//! `/proc/<pid>/cgroup`, of which a container can choose the end of the paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observer::process::container;

fuzz_target!(|text: &str| {
    if let Some(found) = container::parse(text) {
        assert!(found.id.len() == 64 && text.contains(&found.id));
        let is_uid = |uid: &String| uid.len() == 36 || uid.len() == 32;
        assert!(found.pod_uid.as_ref().is_none_or(is_uid));
    }
});
