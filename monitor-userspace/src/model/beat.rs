//! What a service sends of itself, again and again.

/// A heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    /// What is wrong, as the service says itself; none when all is well.
    pub error: Option<String>,
    /// What it says beside that.
    pub text: Option<String>,
    /// What it measured: names of its own.
    pub figures: Vec<(String, f64)>,
}
