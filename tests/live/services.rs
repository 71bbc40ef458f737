//! Services as they are: real servers, asked in their own words, broken and repaired.

#[path = "services/databases.rs"]
mod databases;
