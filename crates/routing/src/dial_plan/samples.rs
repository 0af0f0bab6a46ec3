//! Gateways and routes for tests.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sip::Status;

use super::{CallerRules, Fits, Gateway, Goal, HeaderEdits, Pattern, Rewrite, Route, Watch};

/// A gateway at the address 198.51.100.1.
pub fn gateway(name: &str) -> Gateway {
    Gateway {
        name: name.into(),
        group: None,
        uri: Bytes::from_static(b"sip:198.51.100.1:5060"),
        registration: None,
        via: None,
        priority: 0,
        weight: 1,
        calls_max: None,
        watch: Watch {
            interval: Some(Duration::from_secs(30)),
            failures: 3,
            successes: 1,
            refusals: BTreeSet::from([Status::REQUEST_TIMEOUT, Status::SERVICE_UNAVAILABLE]),
        },
        answer_timeout: Duration::from_secs(4),
        sources: Vec::new(),
        rewrite: Rewrite::default(),
        caller: CallerRules::default(),
        headers: HeaderEdits::default(),
        relay: None,
    }
}

/// A route for numbers.
pub fn route(name: &str, numbers: &[&str], goal: Goal) -> Route {
    let numbers = numbers.iter().map(|text| Pattern::parse(text).expect("the test's pattern")).collect();
    Route {
        name: name.into(),
        fits: Fits { numbers, ..Fits::default() },
        rewrite: Rewrite::default(),
        caller: None,
        headers: HeaderEdits::default(),
        goal,
    }
}
