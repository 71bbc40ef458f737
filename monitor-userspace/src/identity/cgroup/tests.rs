use super::*;

const A: &str = "3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a9c0b1d2e3f2a";
const B: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "c0a80001-5a00-11e9-b385-42010a80018d";
const UID_: &str = "c0a80001_5a00_11e9_b385_42010a80018d";

/// A path with its abbreviations spelled out.
fn place(path: &str) -> Place {
    let path = path.replace("<A>", A).replace("<B>", B);
    parse(&path.replace("<UID>", UID).replace("<UID_>", UID_))
}

fn container_of(path: &str) -> Option<(Runtime, String)> {
    let found = place(path).container?;
    Some((found.runtime, found.id))
}

fn names(path: &str) -> (Option<String>, Option<String>, Option<String>) {
    let place = place(path);
    assert_eq!((&place.container, &place.pod), (&None, &None), "{path}");
    (place.slice, place.unit, place.user_unit)
}

fn triple(
    slice: &str,
    unit: &str,
    user_unit: &str,
) -> (Option<String>, Option<String>, Option<String>) {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (some(slice), some(unit), some(user_unit))
}

#[test]
fn units_are_read_as_systemd_reads_them() {
    for (path, slice, unit, user_unit) in [
        ("/", "", "", ""),
        ("/init.scope", "", "init.scope", ""),
        ("/system.slice", "system.slice", "", ""),
        (
            "/system.slice/nginx.service",
            "system.slice",
            "nginx.service",
            "",
        ),
        (
            "/system.slice/nginx.service (deleted)",
            "system.slice",
            "nginx.service",
            "",
        ),
        (
            "/system.slice/nginx.service/worker",
            "system.slice",
            "nginx.service",
            "",
        ),
        (
            "/system.slice/system-postgresql.slice/postgresql@16-main.service",
            "system-postgresql.slice",
            "postgresql@16-main.service",
            "",
        ),
        (
            "/system.slice/system-getty.slice/getty@tty1.service",
            "system-getty.slice",
            "getty@tty1.service",
            "",
        ),
        (
            "/system.slice/dev-disk-by\\x2duuid.swap",
            "system.slice",
            "dev-disk-by\\x2duuid.swap",
            "",
        ),
        (
            "/system.slice/cups.socket",
            "system.slice",
            "cups.socket",
            "",
        ),
        (
            "/system.slice/run-r1.scope",
            "system.slice",
            "run-r1.scope",
            "",
        ),
        (
            "/a.slice/a-b.slice/a-b-c.slice/x.service",
            "a-b-c.slice",
            "x.service",
            "",
        ),
        (
            "/system.slice/_cgroup.service",
            "system.slice",
            "cgroup.service",
            "",
        ),
    ] {
        assert_eq!(names(path), triple(slice, unit, user_unit), "{path}");
    }
}

#[test]
fn a_users_own_units_lie_below_the_users_manager() {
    for (path, slice, unit, user_unit) in [
        (
            "/user.slice/user-1000.slice/session-3.scope",
            "user-1000.slice",
            "session-3.scope",
            "",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service",
            "user-1000.slice",
            "user@1000.service",
            "foo.service",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.kde.slice/vte-1.scope/x",
            "user-1000.slice",
            "user@1000.service",
            "vte-1.scope",
        ),
        (
            "/user.slice/user-0.slice/user@0.service/init.scope",
            "user-0.slice",
            "user@0.service",
            "init.scope",
        ),
        (
            "/user.slice/user-0.slice/user@0.service",
            "user-0.slice",
            "user@0.service",
            "",
        ),
    ] {
        assert_eq!(names(path), triple(slice, unit, user_unit), "{path}");
    }
}

#[test]
fn what_systemd_does_not_make_is_no_unit() {
    for (path, slice, unit, user_unit) in [
        ("/nginx", "", "", ""),
        ("/system.slice/foo@.service", "system.slice", "", ""),
        ("/system.slice/@x.service", "system.slice", "", ""),
        ("/system.slice/.service", "system.slice", "", ""),
        ("/system.slice/a b.service", "system.slice", "", ""),
        ("/system.slice/x.timer", "system.slice", "", ""),
        ("/-bad.slice/x.service", "", "", ""),
        ("/mine/nginx.service", "", "", ""),
        // A service that has delegated its tree: what is below is its own affair.
        (
            "/system.slice/mine.service/system.slice/x.service",
            "system.slice",
            "mine.service",
            "",
        ),
    ] {
        assert_eq!(names(path), triple(slice, unit, user_unit), "{path}");
    }
}

#[test]
fn containers_are_known_by_what_their_runtimes_write() {
    use Runtime::{Containerd, CriO, Docker, Lxc, Nspawn, Podman, Unknown};
    for (path, runtime, id) in [
        ("/docker/<A>", Docker, A),
        ("/docker/<A>/init.scope", Docker, A),
        ("/docker/<A>/docker/<B>", Docker, B),
        ("/system.slice/docker-<A>.scope", Docker, A),
        (
            "/system.slice/docker-<A>.scope/system.slice/nginx.service",
            Docker,
            A,
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-<A>.scope",
            Docker,
            A,
        ),
        ("/system.slice:docker:<A>", Docker, A),
        ("/actions_job/<A>", Docker, A),
        ("/ecs/0123/<A>", Docker, A),
        ("/machine.slice/libpod-<A>.scope", Podman, A),
        ("/machine.slice/libpod-<A>.scope/container", Podman, A),
        (
            "/machine.slice/machine-libpod_pod_<B>.slice/libpod-<A>.scope/container",
            Podman,
            A,
        ),
        ("/libpod_parent/libpod-<A>", Podman, A),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-<A>.scope/container",
            Podman,
            A,
        ),
        ("/system.slice/web.service/libpod-payload-<A>", Podman, A),
        (
            "/system.slice/containerd.service/cri-containerd-<A>.scope",
            Containerd,
            A,
        ),
        ("/k8s.io/<A>", Containerd, A),
        ("/default/<A>", Containerd, A),
        ("/system.slice:cri-containerd:<A>", Containerd, A),
        ("/system.slice/nerdctl-<A>.scope", Containerd, A),
        ("/system.slice/crio-<A>.scope", CriO, A),
        ("/crio-<A>", CriO, A),
        ("/kubepods/besteffort/pod<UID>/crio-<A>", CriO, A),
        ("/kubepods/besteffort/pod<UID>/<A>", Unknown, A),
        ("/kubepods/pod<UID>/<A>/docker/<B>", Docker, B),
        ("/lxc/web", Lxc, "web"),
        ("/lxc.payload/web", Lxc, "web"),
        ("/lxc.payload.web/system.slice/ssh.service", Lxc, "web"),
        (
            "/machine.slice/systemd-nspawn@box.service/payload/init.scope",
            Nspawn,
            "box",
        ),
        ("/machine.slice/machine-my\\x2dbox.scope", Nspawn, "my-box"),
        (
            "/machine.slice/machine-lxc\\x2d4711\\x2dweb.scope",
            Lxc,
            "web",
        ),
    ] {
        assert_eq!(container_of(path), Some((runtime, id.to_owned())), "{path}");
    }
}

#[test]
fn what_only_looks_like_a_container_is_none() {
    for path in [
        "/machine.slice/libpod-conmon-<A>.scope",
        "/system.slice/crio-conmon-<A>.scope",
        "/libpod_parent/conmon",
        "/docker/3f2a9c0b1d2e",
        "/docker/buildkit/abc",
        "/docker",
        "/docker/<A>0",
        "/system.slice/docker-3f2a9c0b1d2e.scope",
        "/system.slice/docker-<A>.service",
        "/system.slice/docker-<A>",
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        "/mine/<A>",
        "/<A>",
        "/system.slice/<A>",
        "/mine/default/<A>",
        "/kubepods/burstable/pod<UID>",
        "/kubepods/burstable/<A>",
        "/lxc",
        "/mine/lxc/web",
        "/lxc.monitor.web",
        "/lxc.monitor/web",
        "/lxc.payload.",
        "/machine.slice/systemd-nspawn@box.service/supervisor",
        "/machine.slice/systemd-nspawn@.service",
        "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
        "/system.slice/machine-x.scope",
        "/a:docker:short",
        "/a:b:<A>",
    ] {
        assert_eq!(container_of(path), None, "{path}");
    }
    let upper = format!("/docker/{}", A.to_uppercase());
    assert_eq!(parse(&upper).container, None);
}

#[test]
fn a_systemd_in_a_container_names_no_unit_of_the_host() {
    let inside = place("/docker/<A>/system.slice/nginx.service");
    assert_eq!((inside.unit, inside.slice), (None, None));
    let inside = place("/system.slice/docker-<A>.scope/system.slice/nginx.service");
    assert_eq!(inside.unit, Some(format!("docker-{A}.scope")));
}

#[test]
fn pods_are_known_in_both_of_kubelets_drivers() {
    let slice = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<UID_>.slice";
    for (path, qos) in [
        ("/kubepods/burstable/pod<UID>/<A>".to_owned(), "burstable"),
        ("/kubepods/besteffort/pod<UID>/<A>".to_owned(), "besteffort"),
        ("/kubepods/pod<UID>/<A>".to_owned(), "guaranteed"),
        ("/kubelet/kubepods/burstable/pod<UID>/<A>".to_owned(), "burstable"),
        (format!("{slice}/cri-containerd-<A>.scope"), "burstable"),
        (format!("{slice}/crio-<A>.scope/container"), "burstable"),
        (format!("{slice}/docker-<A>.scope"), "burstable"),
        (format!("{slice}/<A>"), "burstable"),
        (
            "/kubepods.slice/kubepods-pod<UID_>.slice/cri-containerd-<A>.scope".to_owned(),
            "guaranteed",
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod<UID_>.slice/cri-containerd-<A>.scope".to_owned(),
            "besteffort",
        ),
        (
            "/docker/<B>/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod<UID_>.slice/cri-containerd-<A>.scope".to_owned(),
            "guaranteed",
        ),
        (
            "/system.slice/containerd.service/kubepods-burstable-pod<UID_>.slice:cri-containerd:<A>".to_owned(),
            "burstable",
        ),
    ] {
        let found = place(&path);
        let pod = found.pod.expect(&path);
        assert_eq!((pod.uid.as_str(), pod.qos.as_deref()), (UID, Some(qos)), "{path}");
        assert_eq!(found.container.expect(&path).id, A, "{path}");
    }
    // A pod of a manifest file on the node.
    let uid = "0123456789abcdef0123456789abcdef";
    for path in [
        format!("/kubepods/burstable/pod{uid}/{A}"),
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/x"),
    ] {
        assert_eq!(parse(&path).pod.expect("a pod").uid, uid);
    }
    for path in [
        "/pod<UID>/<A>",
        "/mine/pod<UID>",
        "/kubepods/mine/pod<UID>",
        "/kubepods/burstable/podshort",
        "/kubepods/burstable/pod",
        "/mine-pod<UID_>.slice",
        "/kubepods.slice/kubepods-burstable.slice",
    ] {
        assert_eq!(place(path).pod, None, "{path}");
    }
}

/// A small deterministic generator (xorshift), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}

#[test]
fn garbage_is_neither_a_panic_nor_a_container() {
    const PIECES: &[&str] = &[
        "/",
        "//",
        "..",
        ".",
        "-",
        "_",
        ":",
        "@",
        "\\x2d",
        "\\x",
        "\\xzz",
        " (deleted)",
        "é",
        "\u{202e}",
        "\0",
        ".slice",
        ".scope",
        ".service",
        "docker",
        "docker-",
        "libpod-",
        "libpod-conmon-",
        "crio-",
        "cri-containerd-",
        "kubepods",
        "burstable",
        "pod",
        "lxc.payload.",
        "machine-",
        "machine.slice",
        "systemd-nspawn@",
        "user@1000",
        "3f2a9c0b1d2e",
        "c0a80001-5a00-11e9-b385-42010a80018d",
        "0123456789abcdef0123456789abcde",
    ];
    let mut random = Random(0x5eed);
    for _ in 0..50_000 {
        let mut path = String::new();
        for _ in 0..random.below(14) {
            path.push_str(PIECES[random.below(PIECES.len())]);
        }
        let found = parse(&path);
        if let Some(container) = found.container {
            let named = matches!(container.runtime, Runtime::Lxc | Runtime::Nspawn);
            assert!(
                named || hex_id(&container.id).is_some(),
                "{path}: {container:?}"
            );
            assert!(
                !container.id.is_empty() && !container.id.contains('/'),
                "{path}"
            );
        }
        if let Some(pod) = found.pod {
            assert!(is_pod_uid(&pod.uid), "{path}: {pod:?}");
        }
        for unit in [found.unit, found.user_unit].into_iter().flatten() {
            assert!(is_unit(&unit), "{path}: {unit}");
        }
    }
    let long = "/x".repeat(100_000);
    assert_eq!(parse(&long), Place::default());
    assert_eq!(parse(&"x".repeat(1_000_000)), Place::default());
}
