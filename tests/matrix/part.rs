//! The processes that the probes are to see: this very program, with a part to play. They need nothing else of the system.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;
use smart_monitor_tests::{may_lower_oom_score, program};

/// Bytes of the file that [`Part::Contend`] writes at a time: long enough a write for another to wait for its end.
const CONTENDED: usize = 8 << 20;

/// What it does, once it has been told to go on.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Part {
    /// Ends with exit code 7.
    Exit,
    /// Takes 64 MiB and ends.
    Take,
    /// Takes memory without end.
    Hog,
    /// Has two threads write to the same file, so that one waits for the other in the kernel, without end.
    Contend,
    /// Does for itself what the daemon does at its start, and ends well if the kernel spares it now as far as it may be spared.
    Protect,
}

/// A process that plays a part. Killed with its owner.
pub(crate) struct Actor(Child);

impl Actor {
    /// Starts one, which waits for [`Self::go`].
    pub(crate) fn new(part: Part) -> Result<Self> {
        let name = part.to_possible_value().context("a part without a name")?;
        let mut command = program(std::env::current_exe()?);
        command.args(["--part", name.get_name()]);
        Ok(Self(command.stdin(Stdio::piped()).spawn()?))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Lets it go on.
    pub(crate) fn go(&mut self) -> Result<()> {
        let input = self.0.stdin.as_mut().context("no pipe")?;
        Ok(input.write_all(b"\n")?)
    }

    /// Kills it, and waits for its end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.wait()
    }

    /// Waits for its end; whether it ended well.
    pub(crate) fn ended_well(&mut self) -> Result<bool> {
        Ok(self.0.wait()?.success())
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Result<()> {
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ended = self.kill();
    }
}

impl Part {
    /// Plays it, as a process of its own.
    pub(crate) fn play(self) -> Result<()> {
        std::io::stdin().read_exact(&mut [0])?;
        match self {
            Self::Exit => std::process::exit(7),
            Self::Take => {
                let held: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 1 << 20]).collect();
                println!("held {} MiB", held.len());
                Ok(())
            }
            Self::Hog => {
                let mut held = Vec::new();
                loop {
                    held.push(vec![1_u8; 1 << 20]);
                }
            }
            Self::Contend => contend(),
            Self::Protect => protect(),
        }
    }
}

fn protect() -> Result<()> {
    smart_monitor::host::own::stay_alive();
    let score = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    // Without the right, it stays what it was.
    ensure!(
        score.trim() == "-900" || !may_lower_oom_score()?,
        "its oom_score_adj is {}",
        score.trim()
    );
    Ok(())
}

fn contend() -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let path = std::env::temp_dir().join(format!("smart-monitor-matrix-{}", std::process::id()));
    let file = std::fs::File::create_new(&path)?;
    std::fs::remove_file(path)?;
    let bytes = vec![1; CONTENDED];
    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            scope.spawn(|| {
                loop {
                    if let Err(error) = file.write_all_at(&bytes, 0) {
                        return error;
                    }
                }
            })
        });
        let [first, _] = threads;
        let error = first.join().map_err(|_| anyhow::anyhow!("a thread died"))?;
        Err(error.into())
    })
}
