//! Services that others run, and their checks, with the real software.

#[path = "services/pm2.rs"]
mod pm2;
#[path = "services/supervisord.rs"]
mod supervisord;
