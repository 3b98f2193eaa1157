use super::*;
use std::os::unix::fs::symlink;

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn pod(namespace: &str, name: &str, container: &str) -> Pod {
    Pod {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        container: container.to_owned(),
        ..Pod::default()
    }
}

/// A `/proc` with one process 7, whose root has these files.
fn proc_root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let proc_root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = proc_root.path().join("7/root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    proc_root
}

#[test]
fn the_link_of_a_log_names_pod_namespace_and_container() {
    let id = id('a');
    let of = |link: &str| of_link(&link.replace("ID", &id), &id);
    let link = "shop-7d4b9c-x2x9p_prod_web-1-ID.log";
    assert_eq!(of(link), Some(pod("prod", "shop-7d4b9c-x2x9p", "web-1")));
    for other in [
        "shop_prod_web-ID",
        "shop_prod_webID.log",
        "shop_prod_web_more-ID.log",
        "shop_prod-ID.log",
        "_prod_web-ID.log",
        "shop_PROD_web-ID.log",
        "ID.log",
        "",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
    assert_eq!(of_link(link, "b"), None);
}

#[test]
fn the_host_knows_better_than_the_pod_itself() {
    let root = proc_root(&[(HOST_NAME, "shop-0\n"), (NAMESPACE, "prod")]);
    assert_eq!(find(root.path(), 7, &id('a')), pod("prod", "shop-0", ""));
    let links = root.path().join("1/root").join(LINKS);
    fs::create_dir_all(&links).unwrap();
    let link = links.join(format!("shop-1_test_web-{}.log", id('a')));
    symlink("/nowhere", link).unwrap();
    assert_eq!(find(root.path(), 7, &id('a')), pod("test", "shop-1", "web"));
    assert_eq!(find(root.path(), 7, &id('b')), pod("prod", "shop-0", ""));
    assert_eq!(find(root.path(), 8, &id('b')), Pod::default());
}

#[test]
fn what_a_pod_puts_in_the_place_of_its_names_is_not_taken_for_one() {
    let long = "a".repeat(254);
    for text in ["root:x:0:0:", "", "a b", "Ä", "a\nb", "../x", &long] {
        let root = proc_root(&[(HOST_NAME, text)]);
        assert_eq!(find(root.path(), 7, &id('a')), Pod::default(), "{text:?}");
    }
    // A link that leads outside, from inside leads nowhere.
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret").unwrap();
    let root = proc_root(&[("etc/other", "x")]);
    symlink(secret.path(), root.path().join("7/root").join(HOST_NAME)).unwrap();
    assert_eq!(find(root.path(), 7, &id('a')), Pod::default());
    // Nobody writes to it: opening it for reading would wait for ever.
    let root = proc_root(&[("etc/other", "x")]);
    let pipe = root.path().join("7/root").join(HOST_NAME);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(find(root.path(), 7, &id('a')), Pod::default());
}

proptest::proptest! {
    #[test]
    fn any_name_of_a_link_is_taken_without_panic(link: String, id in "[0-9a-f]{0,64}") {
        let _ = of_link(&link, &id);
    }
}
