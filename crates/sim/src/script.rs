//! The story of a seed: who calls whom, what breaks when, and what must be whole again at the end.
//!
//! First safety: calls and faults, all mixed. Then liveness: everything heals, every phone registers, and
//! calls must go as they should. Then rest: nothing may be left.

use std::time::Duration;

use clock::Instant;

use crate::cast::{self, DOMAIN, FOREIGN_DOMAIN, FORWARDED, cast, who};
use crate::dns::Resolver;
use crate::ledger::Expected;
use crate::network::Conditions;
use crate::phone::{Answering, Behaviour, CallOrder, Patience};
use crate::rng::Rng;
use crate::store::Condition;
use crate::world::{Action, World};

/// From then on nothing breaks any more.
pub(crate) const HEALED: Instant = at(600);
/// By then every phone is registered again.
pub(crate) const CONVERGED: Instant = at(660);
/// From then on the server is registered nowhere: nothing else that it does by itself is under way at the end.
const LEFT: Instant = at(1_840);
/// By then everything has come to rest: the longest call began before `HEALED`, and ten minutes have passed.
pub(crate) const RESTED: Instant = at(1_900);

/// What a fault may hurt beyond its own time: requests under way, and phones that must notice.
const AFTERMATH: Duration = Duration::from_secs(40);

/// A world with its story, at its beginning.
pub(crate) fn world(seed: u64, shown: bool) -> World {
    let mut rng = Rng::new(seed);
    let conditions = match seed % 4 {
        0 => Conditions::PERFECT,
        2 => Conditions::BAD,
        _ => Conditions::GOOD,
    };
    let settings = cast::settings(&mut rng.branch("settings"));
    let mut cast = cast(&mut rng.branch("cast"), &settings);
    if rng.branch("mallory").chance(500) {
        cast::guess_from_the_office(&mut cast);
    }
    let bobs_in_turn = cast.members[who::BOB].setup.q.is_some();
    let mut world = World::new(rng.branch("world"), cast, settings, conditions, shown);
    if !conditions.is_lossless() {
        world.disturbances.add(Instant::START, HEALED - Instant::START + AFTERMATH, &[]);
    }
    let mut script = Script { rng, world, bobs_in_turn, calls: 0 };
    if script.rng.chance(500) {
        script.world.refuses_connections(who::ZOE);
    }
    script.registrations();
    script.calls();
    script.visitors();
    script.fraud();
    if !seed.is_multiple_of(4) {
        script.faults();
    }
    script.healing();
    script.world
}

struct Script {
    rng: Rng,
    world: World,
    /// Whether the phones of Bob have an order of preference.
    bobs_in_turn: bool,
    calls: u32,
}

/// The users that can be called, with the phones that ring.
const CALLED: [(&str, &[usize]); 8] = [
    ("alice", &[who::ALICE]),
    ("bob", &[who::BOB, who::BOB_TCP, who::BOB_SIX]),
    ("carol", &[who::CAROL]),
    ("dave", &[who::DAVE]),
    ("erin", &[who::ERIN]),
    ("frank", &[who::FRANK]),
    ("grace", &[who::GRACE]),
    ("henry", &[who::HENRY]),
];

impl Script {
    fn registrations(&mut self) {
        for phone in who::REGISTERED.into_iter().chain([who::IVAN]) {
            let when = self.when(1, 10);
            self.world.plan(when, Action::Register(phone));
        }
    }

    fn calls(&mut self) {
        for _ in 0..18 {
            let when = self.when(20, 560);
            match self.rng.below(24) {
                0..=5 => self.plain_call(when),
                6..=8 => self.fork(when),
                9..=11 => self.cancelled(when),
                12 => self.refused(when),
                13 => self.unanswered(when),
                14 => self.redirected(when),
                15 => self.nowhere(when),
                16 | 17 => self.abroad(when),
                18 | 19 => self.number(when),
                20 => self.forwarded(when),
                _ => self.by_the_neighbour(when),
            }
        }
    }

    /// A call that is answered.
    fn plain_call(&mut self, when: Instant) {
        let (user, phones) = self.rng.pick(&CALLED);
        let answers = self.answers(phones);
        let mut order = self.order(&format!("sip:{user}@{DOMAIN}"));
        self.decorate(&mut order);
        let caller = self.caller(phones);
        if self.rng.chance(300) {
            // Two requests at once with one nonce: their counts may come in either order.
            self.world.plan(when, Action::Register(caller));
        }
        if self.rng.chance(200) {
            // Somebody takes the handset himself.
            order.hang_up_after = None;
            let hangs_up = when + self.rng.between(secs(15), secs(60));
            self.world.plan(hangs_up, Action::HangUp(caller, order.number));
        }
        self.call(when, caller, order, answers);
    }

    fn decorate(&mut self, order: &mut CallOrder) {
        if self.rng.chance(300) {
            order.reinvite_after = Some(self.rng.between(secs(1), secs(4)));
        }
        if self.rng.chance(250) {
            order.bytes_min = 1_200;
        }
        order.hang_up_after = Some(self.rng.between(secs(5), secs(90)));
    }

    /// All phones answer, at their times, and perhaps hang up first.
    fn answers(&mut self, phones: &[usize]) -> Vec<(usize, Answering)> {
        phones
            .iter()
            .map(|&phone| {
                let status = self.rng.pick(&[180, 183]);
                let after = self.rng.between(Duration::ZERO, secs(8));
                let hang_up_after = self.rng.chance(400).then(|| self.rng.between(secs(2), secs(60)));
                (phone, Answering { hang_up_after, ..Answering::of(Behaviour::Answer { status, after }) })
            })
            .collect()
    }

    /// Three phones with a mind of their own.
    fn fork(&mut self, when: Instant) {
        let (user, phones) = CALLED[1];
        let mut answers = self.answers(phones);
        for (_, answering) in &mut answers {
            let after = self.rng.between(Duration::ZERO, secs(6));
            answering.behaviour = match self.rng.below(10) {
                0 => Behaviour::Refuse { status: 486, after },
                1 => Behaviour::Refuse { status: 603, after: after + secs(2) },
                2 => Behaviour::Ring,
                3 => Behaviour::Silence,
                // Both answer at the very same moment.
                4 | 5 => Behaviour::Answer { status: 180, after: secs(3) },
                _ => Behaviour::Answer { status: 180, after },
            };
        }
        let order = self.order(&format!("sip:{user}@{DOMAIN}"));
        let caller = self.caller(phones);
        self.call(when, caller, order, answers);
    }

    fn cancelled(&mut self, when: Instant) {
        let (user, phones) = self.rng.pick(&CALLED);
        let answers = self.answers(phones);
        let mut order = self.order(&format!("sip:{user}@{DOMAIN}"));
        order.cancel_after = Some(match self.rng.below(3) {
            0 => Duration::ZERO,
            // Into the answer.
            1 => answers[0].1.after() + self.rng.between(Duration::ZERO, Duration::from_millis(150)),
            _ => self.rng.between(Duration::ZERO, secs(9)),
        });
        order.patience = if self.rng.chance(300) { Patience::None } else { Patience::Waits };
        let caller = self.caller(phones);
        self.call(when, caller, order, answers);
    }

    fn refused(&mut self, when: Instant) {
        let (user, phones) = self.rng.pick(&CALLED);
        let mut answers = self.answers(phones);
        for (_, answering) in &mut answers {
            let after = self.rng.between(Duration::ZERO, secs(5));
            answering.behaviour =
                Behaviour::Refuse { status: self.rng.pick(&[486, 486, 603, 480, 500]), after };
        }
        let order = self.order(&format!("sip:{user}@{DOMAIN}"));
        let caller = self.caller(phones);
        self.call(when, caller, order, answers);
    }

    /// Nobody ever answers: the server ends it.
    fn unanswered(&mut self, when: Instant) {
        let (user, phones) = self.rng.pick(&[CALLED[0], CALLED[3], CALLED[5], CALLED[7]]);
        let behaviour = match self.rng.below(3) {
            0 => Behaviour::Ring,
            1 => Behaviour::Try,
            _ => Behaviour::Silence,
        };
        let answers = phones.iter().map(|&phone| (phone, Answering::of(behaviour.clone()))).collect();
        let order = self.order(&format!("sip:{user}@{DOMAIN}"));
        let caller = self.caller(phones);
        self.call(when, caller, order, answers);
    }

    fn redirected(&mut self, when: Instant) {
        let to = format!("sip:dave@{DOMAIN}");
        let answers =
            vec![(who::ALICE, Answering::of(Behaviour::Redirect(to))), (who::DAVE, Answering::PROMPT)];
        let order = self.order(&format!("sip:alice@{DOMAIN}"));
        let caller = self.caller(&[who::ALICE, who::DAVE]);
        self.call(when, caller, order, answers);
    }

    /// Nobody is there.
    fn nowhere(&mut self, when: Instant) {
        let (user, status) = self.rng.pick(&[("nobody", 480), ("nemo", 404)]);
        let order = self.order(&format!("sip:{user}@{DOMAIN}"));
        let caller = self.caller(&[]);
        let expected = Expected::Status(vec![status]);
        self.world.plan(when, Action::Call { caller, order, expected });
    }

    /// To a number: a gateway that fails is tried before the one that takes the call, or it is one that nobody may call.
    fn number(&mut self, when: Instant) {
        if self.rng.chance(300) {
            let order = self.order(&format!("sip:0900123@{DOMAIN}"));
            let caller = self.caller(&[]);
            let expected = Expected::Status(vec![403]);
            return self.world.plan(when, Action::Call { caller, order, expected });
        }
        let mut order = self.order(&format!("sip:030123@{DOMAIN}"));
        self.decorate(&mut order);
        let answers = self.answers(&[who::GATEWAY]);
        let caller = self.caller(&[]);
        self.call(when, caller, order, answers);
    }

    /// To somebody who forwards to Alice.
    fn forwarded(&mut self, when: Instant) {
        let mut order = self.order(&format!("sip:{FORWARDED}@{DOMAIN}"));
        self.decorate(&mut order);
        let answers = self.answers(&[who::ALICE]);
        let caller = self.caller(&[who::ALICE]);
        self.call(when, caller, order, answers);
    }

    /// To another domain, which may not be there.
    fn abroad(&mut self, when: Instant) {
        let caller = self.caller(&[]);
        if self.rng.chance(300) {
            let order = self.order("sip:nemo@nowhere.example");
            return self.world.plan(when, Action::Call { caller, order, expected: Expected::End });
        }
        let mut order = self.order(&format!("sip:zoe@{FOREIGN_DOMAIN}"));
        self.decorate(&mut order);
        let answers = self.answers(&[who::ZOE]);
        self.call(when, caller, order, answers);
    }

    /// A trusted proxy sends the call back to us.
    fn by_the_neighbour(&mut self, when: Instant) {
        if self.rng.chance(300) {
            let order = self.order(&format!("sip:loop@{DOMAIN}"));
            let caller = self.caller(&[]);
            let expected = Expected::Status(vec![482]);
            return self.world.plan(when, Action::Call { caller, order, expected });
        }
        let (user, phones) = CALLED[self.rng.index(2)];
        let answers = self.answers(phones);
        let order = self.order(&format!("sip:to-{user}@{DOMAIN}"));
        let caller = self.caller(phones);
        self.call(when, caller, order, answers);
    }

    /// Those who want nothing good, and those who want little.
    fn visitors(&mut self) {
        for _ in 0..40 {
            let when = self.when(5, 590);
            let action = match self.rng.below(12) {
                0 => Action::AttackStream,
                1 => Action::Register(who::MALLORY),
                2 => Action::RegisterAs(self.rng.pick(&[who::ALICE, who::HENRY]), format!("bob@{DOMAIN}")),
                3 => Action::Options(self.rng.pick(&who::REGISTERED)),
                4 | 5 => Action::Ping(self.rng.pick(&who::REGISTERED)),
                _ => Action::Attack,
            };
            self.world.plan(when, action);
        }
    }

    /// A stolen password calls as often as it can.
    fn fraud(&mut self) {
        if self.rng.chance(100) {
            let when = self.when(30, 500);
            self.hurt(when, secs(60), &[who::ERIN]);
            for _ in 0..70 {
                let order = self.order(&format!("sip:nobody@{DOMAIN}"));
                self.world.plan(when, Action::Call { caller: who::ERIN, order, expected: Expected::End });
            }
        }
    }

    fn faults(&mut self) {
        for _ in 0..6 {
            let when = self.when(30, 540);
            let phone = self.rng.pick(&who::REGISTERED);
            match self.rng.below(12) {
                0 => self.rebind(when),
                1 | 2 => self.restart(when),
                3 => {
                    let lasts = self.rng.between(Duration::from_millis(200), secs(3));
                    self.hurt(when, lasts, &[]);
                    self.world.plan(when, Action::Kill(lasts));
                }
                4 => self.store(when),
                5 => self.hanging_store(when),
                6 => self.lost_names(when),
                7 => self.cut(when, phone),
                8 => self.power(when, phone),
                9 => self.connection(when),
                _ => {
                    let back = when + self.rng.between(secs(5), secs(60));
                    self.world.disturbances.add(when, secs(5), &[phone]);
                    self.world.plan(when, Action::Unregister(phone));
                    self.world.plan(back, Action::Register(phone));
                }
            }
        }
    }

    fn rebind(&mut self, when: Instant) {
        let (nat, phones): (usize, &[usize]) =
            self.rng.pick(&[(0, &[who::BOB, who::FRANK]), (1, &[who::CAROL, who::HENRY])]);
        self.hurt(when, secs(20), phones);
        self.world.plan(when, Action::Rebind(nat));
        for &phone in phones {
            self.world.plan(when + secs(2), Action::Register(phone));
        }
    }

    fn restart(&mut self, when: Instant) {
        let lasts = self.rng.between(Duration::from_millis(200), secs(3));
        self.hurt(when, lasts, &[]);
        self.world.plan(when, Action::Restart(lasts));
    }

    fn store(&mut self, when: Instant) {
        let lasts = self.rng.between(secs(5), secs(60));
        let condition = self.rng.pick(&[Condition::Away, Condition::Hanging]);
        self.hurt(when, lasts, &[]);
        self.world.plan(when, Action::Store(condition));
        self.world.plan(when + lasts, Action::Store(Condition::Up));
    }

    /// The server starts with an empty cache and a database that hangs; a caller loses patience.
    fn hanging_store(&mut self, when: Instant) {
        self.hurt(when, secs(20), &[]);
        self.world.plan(when, Action::Restart(Duration::from_millis(500)));
        self.world.plan(when + secs(1), Action::Store(Condition::Hanging));
        self.world.plan(when + secs(15), Action::Store(Condition::Up));
        let mut order = self.order(&format!("sip:dave@{DOMAIN}"));
        order.cancel_after = Some(self.rng.between(secs(1), secs(3)));
        order.patience = Patience::None;
        let expected = Expected::Answers(vec![(who::DAVE, Answering::PROMPT)]);
        self.world.plan(when + secs(4), Action::Call { caller: who::ALICE, order, expected });
        if self.rng.chance(200) {
            self.crowd(when + secs(5));
        }
    }

    /// More calls of one account than may wait for it.
    fn crowd(&mut self, when: Instant) {
        for _ in 0..70 {
            let mut order = self.order(&format!("sip:nobody@{DOMAIN}"));
            order.cancel_after = Some(secs(4));
            self.world.plan(when, Action::Call { caller: who::ALICE, order, expected: Expected::End });
        }
    }

    fn lost_names(&mut self, when: Instant) {
        self.hurt(when, secs(30), &[who::ZOE]);
        self.world.plan(when, Action::Resolver(Resolver::Failing));
        self.world.plan(when + secs(30), Action::Resolver(Resolver::Up));
        let order = self.order(&format!("sip:zoe@{FOREIGN_DOMAIN}"));
        let answers = self.answers(&[who::ZOE]);
        self.call(when + secs(5), who::ALICE, order, answers);
    }

    fn cut(&mut self, when: Instant, phone: usize) {
        let lasts = self.rng.between(secs(10), secs(120));
        // Phones behind one router share its address, and a cut cuts them all.
        self.hurt(when, lasts, &[]);
        self.world.plan(when, Action::Cut { phone, from_phone: self.rng.chance(500) });
        self.world.plan(when + lasts, Action::Mend);
    }

    fn power(&mut self, when: Instant, phone: usize) {
        let lasts = self.rng.between(secs(10), secs(150));
        self.hurt(when, lasts, &[phone]);
        self.world.plan(when, Action::PowerOff(phone));
        self.world.plan(when + lasts, Action::Register(phone));
    }

    fn connection(&mut self, when: Instant) {
        let phone = self.rng.pick(&[who::BOB_TCP, who::CAROL, who::GRACE]);
        self.hurt(when, secs(20), &[phone]);
        if self.rng.chance(500) {
            self.world.plan(when, Action::CloseConnection(phone));
        } else {
            self.world.plan(when, Action::BreakConnection(phone));
            self.world.plan(when + secs(5), Action::Register(phone));
        }
        // Most likely in a call.
        let order = self.order(&format!("sip:alice@{DOMAIN}"));
        let before = Instant::START + when.since(Instant::START + secs(3));
        self.call(before, phone, order, vec![(who::ALICE, Answering::PROMPT)]);
    }

    /// Everything is whole again, and must work.
    fn healing(&mut self) {
        for action in [
            Action::Network(Conditions::GOOD),
            Action::Mend,
            Action::Store(Condition::Up),
            Action::Resolver(Resolver::Up),
        ] {
            self.world.plan(HEALED, action);
        }
        for phone in who::REGISTERED.into_iter().chain([who::IVAN]) {
            let when = self.when(605, 615);
            self.world.plan(when, Action::Register(phone));
        }
        for (user, phones) in CALLED {
            let when = self.when(662, 690);
            let order = self.order(&format!("sip:{user}@{DOMAIN}"));
            let answers = self.answers(phones);
            let caller = self.caller(phones);
            self.call(when, caller, order, answers);
        }
        for phone in who::REGISTERED.into_iter().chain([who::IVAN]) {
            // The last ones end so that what is left at the end is left for ever.
            let (least, most) = self.rng.pick(&[(1_000, 1_100), (1_800, 1_830)]);
            let when = self.when(least, most);
            self.world.plan(when, Action::Unregister(phone));
        }
        self.world.plan(LEFT, Action::LeaveCarriers);
    }

    fn call(&mut self, when: Instant, caller: usize, order: CallOrder, answers: Vec<(usize, Answering)>) {
        let in_turn = self.bobs_in_turn && answers.iter().any(|(phone, _)| *phone == who::BOB);
        let expected = if in_turn { Expected::InTurn(answers) } else { Expected::Answers(answers) };
        self.world.plan(when, Action::Call { caller, order, expected });
    }

    fn order(&mut self, target: &str) -> CallOrder {
        self.calls += 1;
        CallOrder::new(self.calls, target)
    }

    /// A registered phone that is none of these, nor belongs to the same user.
    fn caller(&mut self, others: &[usize]) -> usize {
        let bobs = [who::BOB, who::BOB_TCP, who::BOB_SIX];
        loop {
            let phone = self.rng.pick(&who::REGISTERED);
            let is_bob = bobs.contains(&phone) && others.iter().any(|other| bobs.contains(other));
            if !others.contains(&phone) && !is_bob {
                return phone;
            }
        }
    }

    fn hurt(&mut self, when: Instant, lasts: Duration, phones: &[usize]) {
        self.world.disturbances.add(when, lasts + AFTERMATH, phones);
    }

    fn when(&mut self, least: u64, most: u64) -> Instant {
        Instant::START + self.rng.between(secs(least), secs(most))
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}
