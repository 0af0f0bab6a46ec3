//! By what name and password this server is known at a carrier.

use std::fmt;
use std::sync::Arc;

/// A name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The digest username.
    pub username: String,
    /// The password.
    pub password: Password,
    /// The one realm whose challenges are answered. `None`: the first that the carrier names.
    pub realm: Option<String>,
}

/// A password in the clear: its hash needs the realm, which the carrier names. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<str>);

impl Password {
    /// Takes the password.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// For the digest alone.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_print() {
        let login = Login { username: "trunk".into(), password: Password::new("secret"), realm: None };

        assert!(!format!("{login:?}").contains("secret"));
    }
}
