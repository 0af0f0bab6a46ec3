//! What a route or a gateway does to a number and to header fields.

/// Digits off the front, then others in their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// How many characters go.
    pub strip: usize,
    /// What comes in front.
    pub prefix: Box<str>,
}

impl Rewrite {
    /// The number after it. Of a number that is too short nothing is left but the prefix.
    pub fn apply(&self, number: &str) -> String {
        let start = number.char_indices().nth(self.strip).map_or(number.len(), |(at, _)| at);
        format!("{}{}", self.prefix, &number[start..])
    }
}

/// Header fields of the request that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names, in lower case.
    pub removed: Vec<Box<str>>,
    /// Each is the only one of its name.
    pub set: Vec<(Box<str>, Box<str>)>,
}

/// How a gateway is told who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerRules {
    /// What happens to the caller's own number.
    pub rewrite: Rewrite,
    /// The number of a caller that has none: a user's name is no number.
    pub otherwise: Option<Box<str>>,
    /// The domain of the caller's URI; `None`: the one of From.
    pub domain: Option<Box<str>>,
    /// Where it stands.
    pub place: CallerPlace,
}

/// Where the caller's number stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallerPlace {
    /// RFC 3325 §9.1: `P-Asserted-Identity`.
    #[default]
    Asserted,
    /// RFC 3325 §9.2: `P-Preferred-Identity`.
    Preferred,
    /// `Remote-Party-ID`, an old draft that many gateways still want.
    RemoteParty,
    /// The URI in From.
    From,
    /// Nowhere: From goes as the phone wrote it, and nothing is asserted.
    Nowhere,
}

/// Whether a user part is a number: digits, perhaps behind a plus.
pub fn is_number(user: &str) -> bool {
    let digits = user.strip_prefix('+').unwrap_or(user);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_taken_off_before_others_are_put_in_front() {
        for (strip, prefix, number, rewritten) in [
            (0, "", "030123", "030123"),
            (1, "+49", "030123", "+4930123"),
            (2, "+", "0049301", "+49301"),
            (9, "7", "123", "7"),
            (1, "", "ü1", "1"),
        ] {
            assert_eq!(Rewrite { strip, prefix: prefix.into() }.apply(number), rewritten);
        }
    }

    #[test]
    fn a_name_is_no_number() {
        assert!(is_number("+4930123") && is_number("21"));
        assert!(
            !is_number("alice")
                && !is_number("+")
                && !is_number("")
                && !is_number("12a")
                && !is_number("++1")
        );
    }
}
