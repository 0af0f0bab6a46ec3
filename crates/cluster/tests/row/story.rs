//! Row voters of two nodes, millisecond by millisecond, and when the votes that they gave count.

use std::time::Duration;

use clock::Instant;
use cluster::row::{Change, Durability, History, Output, Row, RowVoter, Seen, Unseen, Written};
use cluster::{
    Answer, Ask, Epoch, Holder, Incarnation, ListVersion, MemberId, Message, NodeId, Record, Release,
    RequestNumber, Seat, ServiceId, Verdict, VoterId, VoterList,
};

const LEASE: Duration = Duration::from_millis(500);
/// For how long a vote counts, from when it was asked for.
const COUNTS_FOR: Duration = Duration::from_millis(400);
const SERVICE: ServiceId = ServiceId(0);
const STEP: Duration = Duration::from_millis(1);
const A: usize = 0;
const B: usize = 1;

/// How the nodes can know that a server failed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// Another one answers, and says so.
    ToldByHistory,
    /// It looks the same, but all connections are broken.
    ToldByConnection,
}

pub struct Story {
    now: Instant,
    log: Vec<Row>,
    history: u64,
    connection: u64,
    nodes: [Node; 2],
    /// Who has a vote, from its arrival until it does not count any more.
    votes: Vec<(usize, Instant, Instant)>,
}

struct Node {
    voter: RowVoter,
    me: Holder,
    asked: Vec<Instant>,
    is_silent: bool,
    connection: u64,
    under_way: Option<UnderWay>,
    slow_read: Option<Duration>,
    slow_write: Option<Duration>,
}

/// An operation: it arrives at the server, and a millisecond later its outcome arrives at the node.
#[expect(clippy::large_enum_variant, reason = "a story has two of them")]
enum UnderWay {
    Going { operation: Option<Change>, arrives: Instant },
    Seen(Result<Seen, Unseen>),
    Written(Written),
}

impl Story {
    /// A holds the row, and both have looked at it for a while.
    pub fn begin(epoch: u64) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let nodes = [A, B].map(|place| Node {
            voter: RowVoter::new(now, SERVICE, place as u64 + 77),
            me: Holder { node: NodeId(place as u8), incarnation: Incarnation(place as u64 + 1) },
            asked: Vec::new(),
            is_silent: false,
            connection: 1,
            under_way: None,
            slow_read: None,
            slow_write: None,
        });
        let record = Record {
            epoch: Epoch(epoch),
            holder: Some(nodes[A].me),
            longest: LEASE,
            list: list(),
            ..Record::first(VoterId(3))
        };
        let log = vec![Row { record, lease: LEASE, writes: 40 }];
        let mut story = Self { now, log, history: 1, connection: 1, nodes, votes: Vec::new() };
        story.run(STEP * 5);
        story
    }

    pub fn a_asks(&mut self, epoch: u64) {
        self.ask(A, epoch);
    }

    pub fn b_asks(&mut self, epoch: u64) {
        self.ask(B, epoch);
    }

    pub fn a_releases(&mut self, epoch: u64) {
        let release = Release { service: SERVICE, holder: self.nodes[A].me, epoch: Epoch(epoch) };
        self.tell(A, Message::Release(release));
        // Whoever releases has closed its gate before.
        let now = self.now;
        for (_, _, until) in self.votes.iter_mut().filter(|(place, ..)| *place == A) {
            *until = now.min(*until);
        }
    }

    /// A is cut off from everything, with the votes that it has.
    pub fn silence_a(&mut self) {
        self.nodes[A].is_silent = true;
    }

    pub fn slow_next_read_of_b(&mut self, way: Duration) {
        self.nodes[B].slow_read = Some(way);
    }

    pub fn slow_next_write_of_b(&mut self, way: Duration) {
        self.nodes[B].slow_write = Some(way);
    }

    /// Whether B has sent a write that has not arrived.
    pub fn b_writes(&self) -> bool {
        matches!(self.nodes[B].under_way, Some(UnderWay::Going { operation: Some(_), .. }))
    }

    /// Whether a vote was given to B.
    pub fn has_b(&self) -> bool {
        self.votes.iter().any(|(place, ..)| *place == B)
    }

    /// Another server takes over that has not the last so many writes.
    pub fn fail_over(&mut self, lost: usize, failover: Failover) {
        self.log.truncate(self.log.len() - lost);
        match failover {
            Failover::ToldByHistory => self.history += 1,
            Failover::ToldByConnection => self.connection += 1,
        }
    }

    /// When votes of both counted at once.
    pub fn doubled(&self) -> Option<Instant> {
        let of = |wanted: usize| self.votes.iter().filter(move |(place, ..)| *place == wanted);
        of(A).find_map(|(_, from_a, until_a)| {
            let both = of(B).map(|(_, from_b, until_b)| (*from_a.max(from_b), *until_a.min(until_b)));
            both.filter(|(from, until)| from < until).map(|(from, _)| from).next()
        })
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            for place in [A, B] {
                self.step(place);
            }
        }
    }

    fn step(&mut self, place: usize) {
        let now = self.now;
        let mut out = Vec::new();
        match self.nodes[place].under_way.take() {
            Some(UnderWay::Going { operation, arrives }) if arrives <= now => {
                self.nodes[place].under_way = Some(self.at_server(place, operation));
            }
            Some(UnderWay::Seen(seen)) => self.nodes[place].voter.handle_seen(now, seen, &mut out),
            Some(UnderWay::Written(written)) => {
                self.nodes[place].voter.handle_written(now, written, &mut out);
            }
            other => self.nodes[place].under_way = other,
        }
        self.carry(place, out);
        let mut out = Vec::new();
        let node = &mut self.nodes[place];
        if node.voter.poll_timeout().is_some_and(|due| due <= now) {
            node.voter.handle_timeout(now, &mut out);
        }
        self.carry(place, out);
    }

    fn at_server(&mut self, place: usize, operation: Option<Change>) -> UnderWay {
        let is_broken = self.nodes[place].connection != self.connection;
        self.nodes[place].connection = self.connection;
        let history = History(self.history);
        match operation {
            None if is_broken => UnderWay::Seen(Err(Unseen)),
            None => UnderWay::Seen(Ok(Seen { row: self.log.last().copied(), history })),
            Some(_) if is_broken => UnderWay::Written(Written::Unknown),
            Some(change) if change.fits(self.log.last(), history) => {
                self.log.push(change.after);
                UnderWay::Written(Written::Done)
            }
            Some(_) => UnderWay::Written(Written::Lost),
        }
    }

    fn ask(&mut self, place: usize, epoch: u64) {
        let node = &mut self.nodes[place];
        node.asked.push(self.now);
        let number = RequestNumber(node.asked.len() as u64);
        let ask = Ask {
            service: SERVICE,
            holder: node.me,
            number,
            epoch: Epoch(epoch),
            lease: LEASE,
            list: list(),
        };
        self.tell(place, Message::Ask(ask));
    }

    fn tell(&mut self, place: usize, message: Message) {
        if self.nodes[place].is_silent {
            return;
        }
        let mut out = Vec::new();
        self.nodes[place].voter.handle_message(self.now, message, &mut out);
        self.carry(place, out);
    }

    fn carry(&mut self, place: usize, out: Vec<Output>) {
        for output in out {
            let node = &mut self.nodes[place];
            let going = match output {
                Output::Read => (None, node.slow_read.take()),
                Output::Write(change) => {
                    let is_take = change.durability == Durability::Durable;
                    (Some(change), node.slow_write.take_if(|_| is_take))
                }
                Output::Say(Message::Answer(Answer { verdict: Verdict::Granted(_), number, .. })) => {
                    let asked = node.asked[number.0 as usize - 1];
                    self.votes.push((place, self.now, asked + COUNTS_FOR));
                    continue;
                }
                Output::Say(_) => continue,
            };
            let (operation, way) = going;
            node.under_way =
                Some(UnderWay::Going { operation, arrives: self.now + way.unwrap_or(Duration::ZERO) });
        }
    }
}

fn list() -> VoterList {
    let seat = |number: u8| Seat { member: MemberId(number), voter: Some(VoterId(u64::from(number) + 1)) };
    VoterList::new(ListVersion::FIRST, [0, 1, 2].map(seat), None)
}
