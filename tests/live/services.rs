//! Services that others run, and their checks, with the real software.

#[path = "services/pm2.rs"]
mod pm2;
#[path = "services/supervisord.rs"]
mod supervisord;
//! Services as they are: real servers, asked in their own words, broken and repaired.

#[path = "services/databases.rs"]
mod databases;
//! Services that somebody else runs, and checks of real software.

#[path = "services/container.rs"]
mod container;
#[path = "services/pid_file.rs"]
mod pid_file;
//! Services that somebody else runs, with the real software.

#[path = "services/systemd.rs"]
mod systemd;
