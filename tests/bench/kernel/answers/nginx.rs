//! An nginx of the bench's own: one process, on one CPU, in a cgroup of its own, on a free port of loopback. Ends with its owner.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use smart_monitor::host::cgroupfs::CgroupFs;

use super::super::tools;
use crate::daemon::{Folder, program};

/// What costs the server next to nothing.
pub(super) const CHEAP: &str = "/cheap";
/// What costs the server some hundred microseconds, and its client next to nothing.
pub(super) const DEAR: &str = "/dear";

#[derive(Debug)]
pub(super) struct Nginx {
    child: Child,
    address: SocketAddr,
    cgroup: PathBuf,
    _folder: Folder,
}

impl Nginx {
    pub(super) fn start(cpu: usize) -> Result<Self> {
        let nginx = tools::find(&["nginx"]).context("no nginx: install it")?;
        let folder = Folder::new()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let configuration = folder.file("nginx.conf");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}; ", folder.file(name).display()))
            .concat();
        fs::write(
            &configuration,
            format!(
                "daemon off; master_process off; pid {}; error_log {} crit;\n\
                 events {{ worker_connections 2048; }}\n\
                 http {{ access_log off; keepalive_requests 1000000000; {temporary}\n\
                 server {{ listen {address} backlog=1024; location = {CHEAP} {{ return 200 \"well\\n\"; }}\n\
                 location = {DEAR} {{ root {}; gzip on; gzip_comp_level 9; gzip_types *; }} }} }}\n",
                folder.file("pid").display(),
                folder.file("log").display(),
                folder.0.display(),
            ),
        )?;
        // Compresses to less than one buffer, so that it leaves at once.
        let line = "what is compressed anew for each answer keeps the server's CPU busy\n";
        fs::write(folder.file("dear"), line.repeat(2_000))?;
        let tree = CgroupFs::open()?.context("no cgroup v2")?;
        let cgroup = tree
            .mount()
            .join(format!("smart-monitor-bench-{}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
        let mut command = program("sh");
        let script =
            "echo 0 > \"$1/cgroup.procs\" && exec taskset -c \"$2\" \"$3\" -p \"$4\" -c \"$5\"";
        command.args(["-c", script, "sh"]).arg(&cgroup);
        command.arg(cpu.to_string()).arg(nginx);
        command.arg(&folder.0).arg(&configuration);
        let child = command.stdout(Stdio::null()).spawn()?;
        let mut server = Self {
            child,
            address,
            cgroup,
            _folder: folder,
        };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            ensure!(Instant::now() < deadline, "nginx does not listen");
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "nginx ended: {ended:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn cgroup_id(&self) -> Result<u64> {
        Ok(fs::metadata(&self.cgroup)?.ino())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
        let _removed = fs::remove_dir(&self.cgroup);
    }
}
