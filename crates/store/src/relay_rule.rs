//! Whether the media of an account's calls pass the relay, as a word.

use routing::Anchoring;
use sip::Aor;

const WORDS: [(Anchoring, &str); 3] =
    [(Anchoring::Never, "never"), (Anchoring::Nat, "nat"), (Anchoring::Always, "always")];

/// The word for a rule.
pub fn word(rule: Anchoring) -> &'static str {
    WORDS.iter().find(|(it, _)| *it == rule).map_or("", |(_, word)| word)
}

/// The rule of a word; `None` if it is none.
pub fn parse(word: &str) -> Option<Anchoring> {
    WORDS.iter().find(|(_, it)| *it == word).map(|(rule, _)| *rule)
}

/// The rule that stands in a database. One that is not known is told, and does not count.
pub fn read(account: &Aor, word: &str) -> Option<Anchoring> {
    let rule = parse(word.trim_end());
    if rule.is_none() && !word.is_empty() {
        tracing::warn!(%account, word, "what an account says of the relay is none of never, nat and always");
    }
    rule
}
