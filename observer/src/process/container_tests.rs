//! On paths as runtimes make them.

use super::*;

const A: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";
const B: &str = "594f6557dc0faa92e0ceac237b78c9e19ad12db5c471c3d2d950d4f2d6b98e4d";
const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";

type Found<'a> = Option<(&'a str, Option<Runtime>, Option<&'a str>)>;

fn check(shape: &str, expected: Found) {
    let slice = UID.replace('-', "_");
    let text = shape
        .replace("{A}", A)
        .replace("{B}", B)
        .replace("{UID}", UID)
        .replace("{U_ID}", &slice);
    let found = parse(&text);
    let found = found
        .as_ref()
        .map(|c| (c.id.as_str(), c.runtime, c.pod_uid.as_deref()));
    assert_eq!(found, expected, "{text}");
}

#[test]
fn containers_without_kubernetes_are_known() {
    use Runtime::{Containerd, Docker, Podman};
    for (shape, id, runtime) in [
        // Docker, cgroupfs driver, version 1: one line a controller.
        (
            "12:pids:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/system.slice/containerd.service\n",
            A,
            Some(Docker),
        ),
        // … and its systemd driver, version 2.
        ("0::/system.slice/docker-{A}.scope\n", A, Some(Docker)),
        // Rootless Docker.
        (
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
            A,
            Some(Docker),
        ),
        // Podman as root and rootless, with the group its runtime crun makes below.
        (
            "0::/machine.slice/libpod-{A}.scope/container",
            A,
            Some(Podman),
        ),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
            A,
            Some(Podman),
        ),
        // Podman, cgroupfs manager.
        ("13:pids:/libpod_parent/libpod-{A}", A, Some(Podman)),
        // A pod of Podman's own is none of Kubernetes.
        (
            "0::/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
            A,
            Some(Podman),
        ),
        // nerdctl and ctr: containerd's namespace above the id.
        ("0::/system.slice/nerdctl-{A}.scope", A, Some(Containerd)),
        ("5:memory:/default/{A}", A, None),
        // An agent of Amazon's ECS.
        (
            "4:cpu:/ecs/a1b2c3d4-0000-4000-8000-123456789abc/{A}",
            A,
            None,
        ),
        // systemd inside a container makes groups of its own.
        (
            "0::/system.slice/docker-{A}.scope/system.slice/gunicorn.service",
            A,
            Some(Docker),
        ),
        ("1:name=systemd:/docker/{A}/init.scope", A, Some(Docker)),
        // Of a process whose container was removed (`cgroups(7)`).
        ("0::/docker/{A} (deleted)", A, Some(Docker)),
        // Seen from inside a control group namespace of a container beside it.
        ("0::/../docker-{A}.scope", A, Some(Docker)),
        // A container in a container.
        ("0::/docker/{B}/docker/{A}", A, Some(Docker)),
    ] {
        check(shape, Some((id, runtime, None)));
    }
}

#[test]
fn containers_of_pods_are_known_with_the_pod() {
    use Runtime::{Containerd, CriO, Docker};
    for (shape, id, runtime) in [
        // cgroupfs driver: guaranteed, burstable, best effort.
        ("11:blkio:/kubepods/pod{UID}/{A}", A, None),
        ("11:blkio:/kubepods/burstable/pod{UID}/{A}", A, None),
        ("0::/kubepods/besteffort/pod{UID}/crio-{A}", A, Some(CriO)),
        // systemd driver: guaranteed, burstable, best effort.
        (
            "0::/kubepods.slice/kubepods-pod{U_ID}.slice/cri-containerd-{A}.scope",
            A,
            Some(Containerd),
        ),
        (
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U_ID}.slice/crio-{A}.scope",
            A,
            Some(CriO),
        ),
        (
            "4:cpu,cpuacct:/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_ID}.slice/docker-{A}.scope",
            A,
            Some(Docker),
        ),
        // CRI-O with crun.
        (
            "0::/kubepods.slice/kubepods-pod{U_ID}.slice/crio-{A}.scope/container",
            A,
            Some(CriO),
        ),
        // containerd told of systemd's slices, but with its own driver.
        (
            "12:cpu,cpuacct:/system.slice/containerd.service/kubepods-besteffort-pod{U_ID}.slice:cri-containerd:{A}",
            A,
            Some(Containerd),
        ),
        // A node of kind (its kubelet has a root group of its own) and one of minikube.
        (
            "0::/system.slice/docker-{B}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{U_ID}.slice/cri-containerd-{A}.scope",
            A,
            Some(Containerd),
        ),
        (
            "9:pids:/docker/{B}/kubelet/kubepods/burstable/pod{UID}/{A}",
            A,
            None,
        ),
        (
            "0::/docker/{B}/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_ID}.slice/crio-{A}.scope",
            A,
            Some(CriO),
        ),
        // The observer in a pod, without the host's control group namespace.
        (
            "0::/../../kubepods-burstable-pod{U_ID}.slice/cri-containerd-{A}.scope",
            A,
            Some(Containerd),
        ),
        ("0::/../../pod{UID}/{A}", A, None),
        // Both versions at once: one knows the pod.
        (
            "1:name=systemd:/docker/{A}\n0::/kubepods/pod{UID}/{A}",
            A,
            None,
        ),
    ] {
        check(shape, Some((id, runtime, Some(UID))));
    }
    // Another container of the same pod: no line of its own tells, so the pod is not known.
    check("0::/../crio-{A}.scope", Some((A, Some(CriO), None)));
    // A pod from a file of the kubelet's.
    let uid = "4fd1a0b1c2d3e4f5061728394a5b6c7d";
    check(
        "0::/kubepods/burstable/pod4fd1a0b1c2d3e4f5061728394a5b6c7d/{B}",
        Some((B, None, Some(uid))),
    );
}

#[test]
fn what_is_no_container_is_none() {
    for shape in [
        "",
        "0::/",
        "12:pids:/\n1:name=systemd:/init.scope\n0::/init.scope\n",
        "0::/system.slice/gunicorn.service",
        "0::/user.slice/user-1000.slice/session-3.scope",
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r{A}.scope",
        // systemd-nspawn names the machine, there is no id.
        "0::/machine.slice/systemd-nspawn@web.service/payload",
        "0::/machine.slice/machine-web.scope/payload",
        // The monitors of containers are outside of them.
        "0::/machine.slice/libpod-conmon-{A}.scope",
        "0::/kubepods.slice/kubepods-pod{U_ID}.slice/crio-conmon-{A}.scope",
        // A pod's own group; a name that is no id.
        "0::/kubepods/burstable/pod{UID}",
        "0::/system.slice/docker-abc123.scope",
        "0::/docker/{A}0",
        "0::/docker/{A}\u{e9}",
        "0::{A}x",
        ":::",
        "0:/docker/{A}",
        "{A}",
    ] {
        check(shape, None);
    }
    let upper = format!("0::/docker/{}", A.to_uppercase());
    assert_eq!(parse(&upper), None);
    // No uid: the container is known all the same.
    check("0::/kubepods/podx{UID}/{A}", Some((A, None, None)));
    check("0::/pod{A}/{B}", Some((B, None, None)));
}

proptest::proptest! {
    #[test]
    fn any_text_parses_without_panic(text: String, parts in "([0-9]:a?:)?(/|:|-|pod|docker|\\.scope|\\.slice|[0-9a-f]{1,64}){0,12}") {
        for text in [text, parts] {
            if let Some(found) = parse(&text) {
                proptest::prop_assert!(is_id(&found.id) && text.contains(&found.id));
            }
        }
    }
}
