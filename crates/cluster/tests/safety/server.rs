//! The server that has the witness's row: it answers late, twice, or never, and comes back with an older row.

use std::time::Duration;

use cluster::row::{Change, Durability, History, Output, Row, RowVoter, Seen, Unseen, Written};
use cluster::{Record, VoterId};

use super::{Event, MS, Message, SERVICE, WITNESS, World};

/// What a server may have lost when it fails over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Renewals: what is written durably is there.
    Renewals,
    /// Whatever was written last. Then an epoch may be used twice; but no two gates are open, if all ask for the same lease.
    Anything,
}

pub(super) struct Server {
    loss: Loss,
    /// What was written, the latest last.
    log: Vec<(Row, Durability)>,
    history: u64,
    /// Connections of an earlier number are broken.
    connection: u64,
}

/// Something on its way to the server.
#[derive(Clone, Debug)]
pub(super) struct Request {
    place: usize,
    number: u64,
    connection: u64,
    operation: Operation,
}

#[expect(clippy::large_enum_variant, reason = "a world has a few of them at a time")]
#[derive(Clone, Copy, Debug)]
enum Operation {
    Read,
    Write(Change),
}

/// Something on its way from the server.
#[expect(clippy::large_enum_variant, reason = "a world has a few of them at a time")]
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Seen(Result<Seen, Unseen>),
    Written(Written),
}

impl Server {
    pub(super) fn new(loss: Loss, voter: VoterId) -> Self {
        let row = Row { record: Record::first(voter), lease: Duration::ZERO, writes: 1 };
        Self { loss, log: vec![(row, Durability::Durable)], history: 1, connection: 0 }
    }

    pub(super) fn loss(&self) -> Loss {
        self.loss
    }

    fn row(&self) -> Option<Row> {
        self.log.last().map(|(row, _)| *row)
    }

    fn do_it(&mut self, operation: Operation) -> Reply {
        let history = History(self.history);
        match operation {
            Operation::Read => Reply::Seen(Ok(Seen { row: self.row(), history })),
            Operation::Write(change) if change.fits(self.row().as_ref(), history) => {
                self.log.push((change.after, change.durability));
                Reply::Written(Written::Done)
            }
            Operation::Write(_) => Reply::Written(Written::Lost),
        }
    }

    /// Goes back over up to so many writes, as far as it may lose them. Says how many it lost.
    fn lose(&mut self, count: u64) -> u64 {
        (0..count)
            .take_while(|_| {
                let is_lost = |(_, durability): &(Row, Durability)| {
                    self.loss == Loss::Anything || *durability == Durability::Renewal
                };
                let may_go = self.log.len() > 1 && self.log.last().is_some_and(is_lost);
                may_go && self.log.pop().is_some()
            })
            .count() as u64
    }
}

impl World {
    pub(super) fn start_row(&mut self, place: usize) {
        let chance = self.rng.next();
        let now = self.local(place);
        self.places[place].operation = 0;
        self.places[place].row = Some(RowVoter::new(now, SERVICE, chance));
    }

    /// Tells the process beside a node something: in order, and nothing is lost.
    pub(super) fn tell(&mut self, place: usize, message: Message) {
        let message = match message {
            Message::Ask(ask) => cluster::Message::Ask(ask),
            Message::Release(release) => cluster::Message::Release(release),
            _ => return,
        };
        let boot = self.places[place].boot;
        self.push(1, Event::Told { place, boot, message });
    }

    pub(super) fn told(&mut self, place: usize, message: cluster::Message) {
        self.row(place, |row, now, out| row.handle_message(now, message, out));
    }

    pub(super) fn row_timeout(&mut self, place: usize) {
        self.row(place, |row, now, out| {
            if row.poll_timeout().is_some_and(|due| due <= now) {
                row.handle_timeout(now, out);
            }
        });
    }

    pub(super) fn replied(&mut self, place: usize, number: u64, reply: Reply) {
        if self.places[place].operation != number {
            return;
        }
        self.places[place].operation = 0;
        match reply {
            Reply::Seen(seen) => self.row(place, |row, now, out| row.handle_seen(now, seen, out)),
            Reply::Written(written) => {
                self.count(match written {
                    Written::Done => "row: written",
                    Written::Lost => "row: another one was there",
                    Written::Unknown => "row: nobody knows whether it was written",
                });
                self.row(place, |row, now, out| row.handle_written(now, written, out));
            }
        }
    }

    /// The worst moment: a write has just been done and is about to be lost, and who has done it is cut off with that vote.
    fn fail_over_behind(&mut self, place: usize) {
        self.count("row: a failover behind a write");
        self.cut.extend([(place, WITNESS), (place, 1 - place), (1 - place, place)]);
        self.server_fault(1);
    }

    /// Something arrives at the server.
    pub(super) fn requested(&mut self, request: Request) {
        let Some(server) = &mut self.server else { return };
        let Request { place, number, connection, operation } = request;
        if connection != server.connection {
            return;
        }
        let reply = server.do_it(operation);
        let is_done = matches!(reply, Reply::Written(Written::Done));
        if is_done && self.is_hostile && self.rng.chance(10) {
            self.push(MS / 10, Event::Replied { place, number, reply });
            return self.fail_over_behind(place);
        }
        if self.is_hostile && (self.cut.contains(&(WITNESS, place)) || self.rng.chance(50)) {
            return self.count("row: an answer lost");
        }
        let after = self.way();
        self.push(after, Event::Replied { place, number, reply });
    }

    /// The server fails over: to one that has not all writes, or that has broken all connections.
    pub(super) fn server_fault(&mut self, count: u64) {
        let is_told_by_history = self.rng.chance(500);
        let Some(server) = &mut self.server else { return };
        let lost = server.lose(count);
        // What may have lost more than renewals is always another one.
        if is_told_by_history || server.loss == Loss::Anything {
            server.history += 1;
        } else {
            server.connection += 1;
        }
        self.count("row: a failover");
        if lost > 0 {
            self.count("row: a failover that lost writes");
        }
    }

    fn row(&mut self, place: usize, handle: impl FnOnce(&mut RowVoter, clock::Instant, &mut Vec<Output>)) {
        let now = self.local(place);
        let mut out = Vec::new();
        let Some(row) = &mut self.places[place].row else { return };
        handle(row, now, &mut out);
        for output in out {
            match output {
                Output::Read => self.operate(place, Operation::Read),
                Output::Write(change) => self.operate(place, Operation::Write(change)),
                Output::Say(cluster::Message::Answer(answer)) => {
                    self.push(1, Event::Deliver { to: place, message: Message::Answer(answer) });
                }
                Output::Say(cluster::Message::List(_, list)) => {
                    self.push(1, Event::Deliver { to: place, message: Message::List(list) });
                }
                Output::Say(_) => {}
            }
        }
    }

    fn operate(&mut self, place: usize, operation: Operation) {
        let Some(connection) = self.server.as_ref().map(|server| server.connection) else { return };
        self.number += 1;
        let number = self.number;
        self.places[place].operation = number;
        let unknown = match operation {
            Operation::Read => Reply::Seen(Err(Unseen)),
            Operation::Write(_) => Reply::Written(Written::Unknown),
        };
        if self.places[place].connection != connection {
            self.places[place].connection = connection;
            return self.push(MS, Event::Replied { place, number, reply: unknown });
        }
        let deadline = RowVoter::deadline(self.places[place].lease).as_nanos() as u64;
        self.push(deadline, Event::Replied { place, number, reply: unknown });
        if self.is_hostile && (self.cut.contains(&(place, WITNESS)) || self.rng.chance(30)) {
            return self.count("row: a request lost");
        }
        let request = Request { place, number, connection, operation };
        if self.is_hostile && self.rng.chance(30) {
            self.count("row: a request doubled");
            let after = self.way();
            self.push(after, Event::Requested(request.clone()));
        }
        let after = self.way();
        self.push(after, Event::Requested(request));
    }

    fn way(&mut self) -> u64 {
        if self.is_hostile && self.rng.chance(60) {
            self.count("row: late");
            return self.rng.between(50 * MS, 1_500 * MS);
        }
        self.rng.between(MS / 10, 10 * MS)
    }
}
