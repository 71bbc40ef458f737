//! Services that others run, and their checks, with the real software.

#[path = "services/pm2.rs"]
mod pm2;
#[path = "services/supervisord.rs"]
mod supervisord;
//! Services as they are: real servers, asked in their own words, broken and repaired.

#[path = "services/databases.rs"]
mod databases;
