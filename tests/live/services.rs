//! Services that others run, and checks of real software: broken, told, repaired.

#[path = "services/certificate.rs"]
mod certificate;
#[path = "services/children.rs"]
mod children;
#[path = "services/container.rs"]
mod container;
#[path = "services/databases.rs"]
mod databases;
#[path = "services/discover.rs"]
mod discover;
#[path = "services/examples.rs"]
mod examples;
#[path = "services/host_checks.rs"]
mod host_checks;
#[path = "services/hostile.rs"]
mod hostile;
#[path = "services/mariadb.rs"]
mod mariadb;
#[path = "services/nginx.rs"]
mod nginx;
#[path = "services/pid_file.rs"]
mod pid_file;
#[path = "services/pm2.rs"]
mod pm2;
#[path = "services/supervisord.rs"]
mod supervisord;
#[path = "services/systemd.rs"]
mod systemd;
