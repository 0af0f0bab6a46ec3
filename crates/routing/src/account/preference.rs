//! In which order the targets of an address of record are tried.

use std::cmp::Reverse;

use super::binding::Since;
use crate::Target;

/// Best `q` first, and in the order of their registration where it is equal; of several flows of one phone the one
/// that was refreshed last comes first. Each target comes with the time since which its binding is there.
// RFC 5626 §7: which of the flows is first is the proxy's choice. The last one that was heard of is the likeliest to live.
pub(super) fn in_order(mut targets: Vec<(Since, Target)>) -> Vec<Target> {
    targets.sort_by_key(|(_, target)| Reverse(target.q));
    for place in 0..targets.len() {
        let is_same_phone = |at: &usize| are_flows_of_one_phone(&targets[place].1, &targets[*at].1);
        let newest = (place..targets.len()).filter(is_same_phone).max_by_key(|&at| targets[at].0);
        if let Some(newest) = newest {
            targets.swap(place, newest);
        }
    }
    targets.into_iter().map(|(_, target)| target).collect()
}

fn are_flows_of_one_phone(one: &Target, other: &Target) -> bool {
    let are_flows = one.reg_id.is_some() && other.reg_id.is_some();
    are_flows && one.instance == other.instance && one.q == other.q
}
