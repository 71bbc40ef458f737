//! Shared by the end-to-end tests beside this file.
