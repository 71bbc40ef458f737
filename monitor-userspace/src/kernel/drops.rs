//! The running kernel's reasons for throwing packets away (`enum skb_drop_reason`, since 5.17): their names, and the class of each.

use std::sync::LazyLock;

use monitor_common::DropClass;
use monitor_common::probes::packet_drop::{REASONS, SUBSYSTEM};

use super::btf::Btf;

/// Names of reasons by their number: the kernel's, in lower case.
#[derive(Debug)]
pub struct DropReasons {
    names: Vec<Option<String>>,
}

/// What the kernel gives no reason for.
const UNKNOWN: &str = "unknown";

impl DropReasons {
    /// Those of this kernel; none of a kernel before 5.17.
    pub(super) fn of(btf: &Btf) -> Self {
        let mut names = vec![None; REASONS];
        for (name, number) in btf.enumerators("skb_drop_reason") {
            let short = name.strip_prefix("SKB_DROP_REASON_");
            let short = short.or(name.strip_prefix("SKB_")).unwrap_or(name);
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            // The last one stands for other enumerations, and `MAX` for none.
            if number < usize::from(SUBSYSTEM)
                && short != "MAX"
                && let Some(slot) = names.get_mut(number)
            {
                *slot = Some(short.to_ascii_lowercase());
            }
        }
        if let [first, .., last] = names.as_mut_slice() {
            *first = Some(UNKNOWN.to_owned());
            *last = Some("subsystem".to_owned());
        }
        Self { names }
    }

    /// The running kernel's, read once; none where its types cannot be read.
    pub fn of_kernel() -> Option<&'static Self> {
        static READ: LazyLock<Option<DropReasons>> = LazyLock::new(|| {
            let btf = Btf::of_kernel().inspect_err(
                |error| tracing::warn!(%error, "reasons of dropped packets have no names"),
            );
            btf.ok().map(|btf| DropReasons::of(&btf))
        });
        READ.as_ref()
    }

    /// The name of a number.
    pub fn name(&self, number: u16) -> Option<&str> {
        self.names.get(usize::from(number))?.as_deref()
    }

    /// All that have a name.
    pub(super) fn all(&self) -> impl Iterator<Item = (u16, &str)> {
        (0..)
            .zip(&self.names)
            .filter_map(|(number, name)| Some((number, name.as_deref()?)))
    }

    /// The class of each number, for the programs.
    pub(super) fn classes(&self) -> [u8; REASONS] {
        let mut classes = [0; REASONS];
        for (number, name) in self.all() {
            let class = DropClass::of_reason(&name.to_ascii_uppercase());
            if let Some(slot) = classes.get_mut(usize::from(number)) {
                *slot = u8::try_from(class as u16).unwrap_or(0);
            }
        }
        classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs a kernel with BTF and, for the reasons, 5.17 or later.
    #[test]
    fn the_running_kernels_reasons_have_names_and_classes() {
        let reasons = DropReasons::of_kernel().expect("this kernel's types can be read");
        let classes = reasons.classes();
        for (name, class) in [
            ("no_socket", DropClass::NoListener),
            ("netfilter_drop", DropClass::Firewall),
            ("socket_rcvbuff", DropClass::BufferFull),
            ("not_specified", DropClass::Unknown),
            ("unknown", DropClass::Unknown),
        ] {
            let (number, _) = reasons
                .all()
                .find(|(_, known)| *known == name)
                .expect("it has a number");
            assert_eq!(reasons.name(number), Some(name));
            let number = classes.get(usize::from(number)).copied();
            assert_eq!(number.map(u16::from), Some(class as u16), "{name}");
        }
        assert_eq!(reasons.name(SUBSYSTEM), Some("subsystem"));
    }
}
