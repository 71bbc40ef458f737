//! The command line: a file per subcommand. May see every stage; nothing imports it.

mod ack;
mod act;
mod approve;
mod ask;
mod audit;
mod catalogue;
mod check_config;
mod demo;
mod discover;
mod doctor;
mod events;
mod explain;
mod generate_docs;
mod heartbeat;
mod held;
mod incidents;
mod logs;
mod proposal;
mod record;
mod reject;
mod render;
mod repair;
mod replay;
mod restore_point;
mod rollback;
mod run;
mod silence;
mod silences;
mod simulate;
mod status;
mod stored;
mod test_policy;
mod undo;
mod unsilence;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sees trouble in the kernel the moment it happens, and repairs it, safely.
#[derive(Debug, Parser)]
#[command(name = "smart-monitor", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon: observe, decide, act, verify.
    Run(run::Args),
    /// What this kernel and host can do: every probe, on or off and why.
    Doctor(doctor::Args),
    /// Check a configuration; mistakes are shown where they stand.
    CheckConfig(check_config::Args),
    /// Find what runs on this host, and propose a configuration.
    Discover(discover::Args),
    /// Run a user's tests of a policy: what happens, and what must be done about it.
    TestPolicy(test_policy::Args),
    /// Health at a glance.
    Status(status::Args),
    /// List incidents, or show one.
    Incidents(incidents::Args),
    /// Who did what, why, and what came of it: the audit journal, its figures, and whether it is whole.
    Audit(audit::Args),
    /// Watch kernel events as they happen: programs, signals, connections, waits, lack of memory, cgroups.
    Events(events::Args),
    /// What a service that the daemon starts has written.
    Logs(logs::Args),
    /// The story of an incident, from kernel event to outcome.
    Explain(explain::Args),
    /// Allow what an incident proposes.
    Approve(approve::Args),
    /// Forbid what an incident proposes.
    Reject(reject::Args),
    /// Say that you have seen an incident.
    Ack(ack::Args),
    /// Have an action done now.
    Act(act::Args),
    /// Have a service repaired now, as its rules provide.
    Repair(repair::Args),
    /// Roll a service back to its last good release.
    Rollback(rollback::Args),
    /// Keep the release that a service runs now as one to go back to.
    RestorePoint(restore_point::Args),
    /// Check a service as often as after a release, from now on.
    Watch(watch::Args),
    /// Change back what was done about an incident and is still in force.
    Undo(undo::Args),
    /// List the actions, and whether this host can do each.
    Catalogue(catalogue::Args),
    /// Have nothing done to a service, a process or anything for some time.
    Silence(silence::Args),
    /// End a silence before its time.
    Unsilence(unsilence::Args),
    /// Say for a service that it is well: for its check `heartbeat`.
    Heartbeat(heartbeat::Args),
    /// List the silences in force.
    Silences(silences::Args),
    /// Record the signals that the running daemon gets, for replay.
    Record(record::Args),
    /// Let the core decide again on recorded signals, also with another configuration.
    Replay(replay::Args),
    /// A simulated service that misbehaves on request.
    Simulate(simulate::Args),
    /// Break simulated services one way after another, and watch each being repaired.
    Demo(demo::Args),
    /// Write the generated reference into a checkout.
    #[command(hide = true)]
    GenerateDocs(generate_docs::Args),
}

/// Parses and runs. Errors are one message on standard error.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Discover(args) => discover::run(&args),
        Command::TestPolicy(args) => test_policy::run(args),
        Command::Status(args) => status::run(args),
        Command::Incidents(args) => incidents::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Events(args) => events::run(args),
        Command::Logs(args) => logs::run(&args),
        Command::Explain(args) => explain::run(args),
        Command::Approve(args) => approve::run(args),
        Command::Reject(args) => reject::run(args),
        Command::Ack(args) => ack::run(args),
        Command::Act(args) => act::run(args),
        Command::Repair(args) => repair::run(args),
        Command::Rollback(args) => rollback::run(&args),
        Command::RestorePoint(args) => restore_point::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Undo(args) => undo::run(args),
        Command::Catalogue(args) => catalogue::run(&args),
        Command::Silence(args) => silence::run(args),
        Command::Unsilence(args) => unsilence::run(args),
        Command::Heartbeat(args) => heartbeat::run(args),
        Command::Silences(args) => silences::run(args),
        Command::Record(args) => record::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Simulate(args) => simulate::run(args),
        Command::Demo(args) => demo::run(args),
        Command::GenerateDocs(args) => generate_docs::run(&args),
    };
    result.unwrap_or_else(|error| {
        render::remark(format_args!("smart-monitor: {error:#}"));
        ExitCode::from(2)
    })
}
