//! Placeholder, replaced before it lands.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Calendar;
pub struct OpenWindow {
    pub name: String,
    pub on: Vec<String>,
    pub detector: Option<String>,
    pub until: Option<i64>,
}
impl Calendar {
    pub fn open(&mut self, _wall: i64) -> Vec<OpenWindow> {
        Vec::new()
    }
    pub fn next_change(&self) -> Option<i64> {
        None
    }
}
