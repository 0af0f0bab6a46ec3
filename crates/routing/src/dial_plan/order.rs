//! In which order the gateways of a route are tried.

use std::sync::Arc;

use keys::Key;

use super::Gateway;
use crate::gateway::{Verdict, Verdicts};

/// Gateways that one request tries. Each that is silent costs the caller some seconds, and nobody waits longer.
const GATEWAYS_TRIED_MAX: usize = 16;

/// The gateways of a route's lists in the order in which they are tried: within a list the lowest priority first,
/// those of one priority by their weight and the Call-ID. What is taken out of service is left out; what is down or
/// busy comes behind all others, for the case that it is not so bad.
// RFC 2782: the weighted choice, with a hash in the place of the random number, so that the same call goes the same
// way again.
pub fn order(
    key: &Key,
    call_id: &[u8],
    lists: &[Vec<Arc<Gateway>>],
    verdicts: &Verdicts,
) -> Vec<Arc<Gateway>> {
    let mut good: Vec<Arc<Gateway>> = Vec::new();
    let mut doubtful = Vec::new();
    for list in lists {
        for gateway in by_priority(key, call_id, list) {
            let is_known = |known: &Vec<Arc<Gateway>>| known.iter().any(|other| other.name == gateway.name);
            if is_known(&good) || is_known(&doubtful) {
                continue;
            }
            match verdicts.of(&gateway.name) {
                Verdict::Good => good.push(gateway),
                Verdict::Doubtful => doubtful.push(gateway),
                Verdict::Out => {}
            }
        }
    }
    good.append(&mut doubtful);
    good.truncate(GATEWAYS_TRIED_MAX);
    good
}

/// The same gateways in the order that priorities alone say, for whoever looks at a route and not at a call.
pub fn listed(lists: &[Vec<Arc<Gateway>>]) -> Vec<Arc<Gateway>> {
    let mut all: Vec<Arc<Gateway>> = Vec::new();
    for list in lists {
        let mut sorted = list.clone();
        sorted.sort_by_key(|gateway| gateway.priority);
        for gateway in sorted {
            if all.iter().all(|known| known.name != gateway.name) {
                all.push(gateway);
            }
        }
    }
    all.truncate(GATEWAYS_TRIED_MAX);
    all
}

fn by_priority(key: &Key, call_id: &[u8], list: &[Arc<Gateway>]) -> Vec<Arc<Gateway>> {
    let mut left = list.to_vec();
    // The order among equals is that of the configuration.
    left.sort_by_key(|gateway| gateway.priority);
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let equals = left.iter().take_while(|gateway| gateway.priority == first.priority).count();
        let round = (ordered.len() as u64).to_be_bytes();
        let draw = key.mac(&[b"gateway", call_id, &round]).short();
        let chosen = draw_one(draw, &left[..equals]);
        ordered.push(left.remove(chosen));
    }
    ordered
}

/// One of them, each as likely as its weight; one with weight 0 only among its like.
fn draw_one(draw: u64, equals: &[Arc<Gateway>]) -> usize {
    let sum: u64 = equals.iter().map(|gateway| u64::from(gateway.weight)).sum();
    if sum == 0 {
        return (draw % equals.len().max(1) as u64) as usize;
    }
    let mut left = draw % sum;
    for (place, gateway) in equals.iter().enumerate() {
        let weight = u64::from(gateway.weight);
        if left < weight {
            return place;
        }
        left -= weight;
    }
    unreachable!("the rest is less than the sum of the weights")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::dial_plan::samples::gateway;

    #[test]
    fn calls_are_spread_by_weight_and_one_call_goes_one_way() {
        let list = vec![weighted("a", 0, 3), weighted("b", 0, 1), weighted("backup", 1, 100)];

        let mut firsts: BTreeMap<String, u32> = BTreeMap::new();
        for call in 0..4_000_u32 {
            let call_id = call.to_be_bytes();
            let ordered = names(&order(&key(), &call_id, std::slice::from_ref(&list), &Verdicts::default()));
            assert_eq!(
                ordered,
                names(&order(&key(), &call_id, std::slice::from_ref(&list), &Verdicts::default()))
            );
            assert_eq!(ordered[2], "backup");
            *firsts.entry(ordered[0].clone()).or_default() += 1;
        }

        let (a, b) = (firsts["a"], firsts["b"]);
        assert!((2_850..3_150).contains(&a) && a + b == 4_000, "{a} {b}");
    }

    #[test]
    fn a_weight_of_nothing_is_taken_last() {
        let list = vec![weighted("spare", 0, 0), weighted("a", 0, 1)];
        for call in 0..100_u32 {
            let ordered =
                order(&key(), &call.to_be_bytes(), std::slice::from_ref(&list), &Verdicts::default());
            assert_eq!(names(&ordered), ["a", "spare"]);
        }
    }

    #[test]
    fn what_is_down_comes_last_and_what_is_taken_out_does_not_come() {
        let lists = [vec![weighted("a", 0, 1)], vec![weighted("b", 0, 1), weighted("c", 1, 1)]];
        let verdicts: Verdicts =
            [("a".into(), Verdict::Doubtful), ("b".into(), Verdict::Out)].into_iter().collect();

        assert_eq!(names(&order(&key(), b"call", &lists, &verdicts)), ["c", "a"]);
    }

    #[test]
    fn a_gateway_that_is_named_twice_is_tried_once() {
        let lists = [vec![weighted("a", 0, 1)], vec![weighted("a", 0, 1), weighted("b", 0, 1)]];

        assert_eq!(names(&order(&key(), b"call", &lists, &Verdicts::default())), ["a", "b"]);
        assert_eq!(names(&listed(&lists)), ["a", "b"]);
    }

    fn weighted(name: &str, priority: u16, weight: u16) -> Arc<Gateway> {
        Arc::new(Gateway { priority, weight, ..gateway(name) })
    }

    fn names(gateways: &[Arc<Gateway>]) -> Vec<String> {
        gateways.iter().map(|gateway| gateway.name.to_string()).collect()
    }

    fn key() -> Key {
        keys::RootKey::new([7; 32]).subkey("test", 0)
    }
}
