//! Programs to begin with: whole registrations, calls and their ends.

/// All programs by name.
pub fn programs() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    PROGRAMS.iter().map(|(name, records)| (*name, records.concat()))
}

type Record = [u8; 8];

const ALICE: u8 = 0;
const BOB: u8 = 1;
const BEHIND_NAT: u8 = 2;
const SIX: u8 = 3;
const TRUSTED: u8 = 4;
const STRANGER: u8 = 5;
const ON_OPEN_LISTENER: u8 = 6;
/// Credentials that are right.
const RIGHT: u8 = 0xb0;

/// A REGISTER of a user from a peer, without credentials.
const fn register(peer: u8, user: u8, contact: u8, number: u8) -> Record {
    [0, peer, 1, 0, user, contact, number, 0]
}

/// The same with credentials.
const fn register_proven(peer: u8, user: u8, contact: u8, number: u8) -> Record {
    [0, peer, 1, 0, user | RIGHT, contact, number, 0]
}

const fn request(peer: u8, method: u8, target: u8, identity: u8, number: u8, extras: u8) -> Record {
    [0, peer, method, target, identity, 0, number, extras]
}

const fn response(which: u8, status: u8) -> Record {
    [4, which, status, 0, 0, 0, 0, 0]
}

const fn in_dialog(which: u8, method: u8, number: u8) -> Record {
    [6, which, method, number, 0, 0, 0, 0]
}

const fn companion(which: u8, kind: u8) -> Record {
    [7, which, kind, 0, 0, 0, 0, 0]
}

const fn pause(which: u8) -> Record {
    [11, which, 0, 0, 0, 0, 0, 0]
}

const fn operator(what: u8, how: u8) -> Record {
    [14, what, how, 0, 0, 0, 0, 0]
}

const INVITE: u8 = 0;
const OPTIONS: u8 = 3;
const MESSAGE: u8 = 7;
const OK: u8 = 0;
const RINGING: u8 = 1;
const BUSY: u8 = 2;
const TRYING: u8 = 4;
const MOVED: u8 = 7;
const UNAVAILABLE: u8 = 8;

const REGISTER_BOB: [Record; 2] = [register(BOB, 1, 0, 0), register_proven(BOB, 1, 0, 8)];

const PROGRAMS: [(&str, &[Record]); 16] = [
    (
        "call",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            request(ALICE, INVITE, 1, 0, 1, 0),
            companion(0, 1),
            request(ALICE, INVITE, 1, RIGHT, 9, 0),
            response(0, TRYING),
            response(0, RINGING),
            response(0, OK),
            in_dialog(0, 0, 0),
            in_dialog(0, 2, 1),
            response(0, OK),
            in_dialog(0, 0, 1),
            in_dialog(0x80, 1, 2),
            response(0, OK),
        ],
    ),
    (
        "cancelled",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            request(ALICE, INVITE, 1, 0, 1, 0),
            request(ALICE, INVITE, 1, RIGHT, 9, 0),
            response(0, RINGING),
            companion(0, 2),
            response(0, OK),
            response(1, 15),
            pause(11),
        ],
    ),
    (
        "busy",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            request(TRUSTED, INVITE, 1, 0, 9, 0),
            response(0, BUSY),
            companion(1, 1),
        ],
    ),
    (
        "forked",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            register_proven(SIX, 1, 0, 16),
            register_proven(BEHIND_NAT, 1, 2, 24),
            request(TRUSTED, INVITE, 1, 0, 9, 0),
            response(0, RINGING),
            response(1, RINGING),
            response(2, OK),
            response(0, 15),
            response(1, UNAVAILABLE),
            pause(12),
        ],
    ),
    ("elsewhere", &[request(TRUSTED, INVITE, 8, 0, 9, 0), pause(3), response(0, MOVED), pause(11)]),
    (
        "names_that_fail",
        &[
            [10, 0, 0x10, 0, 0, 0, 0, 0],
            request(TRUSTED, MESSAGE, 8, 0, 9, 0),
            [10, 0, 3, 0, 0, 0, 0, 0],
            pause(11),
            pause(11),
        ],
    ),
    (
        "store_that_hangs",
        &[
            [9, 0, 0x10, 0, 0, 0, 0, 0],
            register(BOB, 1, 0, 0),
            register_proven(BOB, 1, 0, 8),
            request(ALICE, INVITE, 1, RIGHT, 9, 0),
            companion(0, 2),
            pause(10),
            [9, 0, 0, 0, 0, 0, 0, 0],
            [9, 0, 7, 0, 0, 0, 0, 0],
        ],
    ),
    (
        "connection",
        &[
            [12, 0, 0, 7, 0, 0, 0, 0],
            register(0xc0, 1, 0, 0),
            register_proven(0xc0, 1, 5, 8),
            request(TRUSTED, INVITE, 1, 0, 9, 0),
            response(0, RINGING),
            [12, 1, 0, 0, 0, 0, 0, 0],
            request(TRUSTED, INVITE, 1, 0, 17, 0),
            pause(12),
        ],
    ),
    (
        "large",
        &[
            request(TRUSTED, INVITE, 16, 0, 9, 0),
            [13, 0, 1, 0, 0, 0, 0, 0],
            request(TRUSTED, INVITE, 16, 0, 17, 0),
            pause(12),
        ],
    ),
    (
        "restart",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            request(TRUSTED, INVITE, 1, 0, 9, 0),
            response(0, OK),
            operator(3, 0),
            in_dialog(0, 1, 3),
            response(0, OK),
            register_proven(BOB, 1, 0, 80),
        ],
    ),
    (
        "reload",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            operator(0, 2),
            request(TRUSTED, INVITE, 1, 0, 9, 0),
            operator(0, 3),
            request(ALICE, INVITE, 1, RIGHT, 9, 0),
            operator(0, 4),
            pause(12),
            operator(0, 1),
            pause(12),
        ],
    ),
    (
        "phones_that_lead_back",
        &[
            register(ALICE, 0, 0, 0),
            register_proven(ALICE, 0, 9, 8),
            register_proven(BOB, 1, 10, 16),
            request(TRUSTED, INVITE, 0, 0, 9, 0),
            pause(12),
        ],
    ),
    (
        "stranger",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            request(STRANGER, INVITE, 1, 0, 1, 0),
            [0, STRANGER, 0, 9, 8, 0x80, 2, 0],
            [0, STRANGER, 4, 9, 8, 0xe0, 3, 0],
            [0, STRANGER, 5, 1, 8, 0xe0, 4, 0],
            request(STRANGER, OPTIONS, 7, 0, 5, 0),
            request(STRANGER, 15, 1, 0, 6, 0),
            request(STRANGER, 6, 1, 0, 1, 0),
            register(STRANGER, 1, 0, 7),
        ],
    ),
    (
        "open_listener",
        &[
            REGISTER_BOB[0],
            REGISTER_BOB[1],
            request(ON_OPEN_LISTENER, INVITE, 1, 0, 9, 0),
            response(0, OK),
            pause(12),
        ],
    ),
    (
        "keepalives",
        &[
            register(BEHIND_NAT, 2, 0, 0),
            register_proven(BEHIND_NAT, 2, 0, 8),
            pause(12),
            response(0, OK),
            pause(13),
        ],
    ),
    (
        "forged",
        &[
            [8, STRANGER, 0, 200, 0, 0, 0, 0],
            *b"INVITE s",
            *b"ip:a@b S",
            *b"IP/2.0\r\n",
            *b"v: SIP/2",
            *b".0/UDP x",
            *b"\r\nf:a\r\n\r",
            *b"\nt: <a>\r",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_holds() {
        for (_, program) in programs() {
            super::super::run(&program);
        }
    }
}
