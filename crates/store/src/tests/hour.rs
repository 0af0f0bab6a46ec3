//! An hour in which the database is away, hangs, is slow, is restarted, and loses answers and its last moments, under load, while
//! nodes die, change places and wake up too late. Time is virtual and the database a model; the writers of both nodes are the
//! real ones. At the end the table says what is registered, once, and no row ever became older.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use engine::PublicationWork;
use engine::{Published, StoreError};
use lease::Epoch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::location::Node;
use super::*;
use crate::server::link::Row;
use crate::server::location::Shared;
use crate::server::location::decision::Claim;
use crate::server::location::row::{OwnRow, Text, own_row};
use crate::server::location::shape::{Field, RowId, Shape};
use crate::server::location::table::Table;
use crate::server::location::writer::Writer;
use crate::server::session::Fault;
use crate::server::tables::{Content, Tables};

const HOUR: Duration = Duration::from_secs(3_600);
/// Phones, and how often one of them registers or leaves.
const PHONES: u64 = 300;
const EVERY: Duration = Duration::from_millis(200);
/// What a statement may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How soon everything must be written when all is well.
const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// One of so many answers is lost.
const LOST_ONE_IN: u64 = 300;
const PAGE: usize = 500;

/// How the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Up,
    /// It says at once that it is not there.
    Away,
    /// It says nothing.
    Hanging,
    /// Each answer takes so long.
    Slow(Duration),
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    refused: u64,
    hung: u64,
    done_too_late: u64,
    answers_lost: u64,
    broken_off: u64,
    moved_back: u64,
    overtaken: u64,
    killed: u64,
    switched: u64,
    comparisons: u64,
    written: u64,
    removed: u64,
    owed_most: u64,
}

struct Database {
    rows: BTreeMap<RowId, Vec<Text>>,
    epoch: u64,
    condition: Condition,
    /// Another one after each restart.
    life: u64,
    host: u64,
    /// What the replica has.
    followed: BTreeMap<RowId, Vec<Text>>,
    shape: Arc<Shape>,
    chance: Chance,
    seen: Seen,
}

type Model = Rc<RefCell<Database>>;

/// A connection to it.
struct Connection {
    model: Model,
    shape: Arc<Shape>,
    life: u64,
    place: String,
}

/// Numbers that are the same for the same seed.
struct Chance(u64);

/// A node: what it knows, and its writer.
struct Member {
    node: Arc<Node>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    /// It does not know what has happened since.
    is_asleep: bool,
}

struct World {
    model: Model,
    members: [Member; 2],
    active: usize,
    epoch: u64,
    cseq: u32,
    chance: Chance,
}

#[test]
fn after_an_hour_of_trouble_the_table_says_what_is_registered_once_and_no_row_became_older() {
    for seed in 1..=2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("it is small");
        let local = tokio::task::LocalSet::new();
        let seen = local.block_on(&runtime, async { World::begin(seed).live().await });

        println!("seed {seed}: {seen:?}");
        let Seen { refused, hung, done_too_late, answers_lost, broken_off, moved_back, .. } = seen;
        let Seen { overtaken, killed, switched, comparisons, written, removed, owed_most, .. } = seen;
        let all = [
            refused,
            hung,
            done_too_late,
            answers_lost,
            broken_off,
            moved_back,
            overtaken,
            killed,
            switched,
            comparisons,
            written,
            removed,
            owed_most,
        ];
        assert!(all.iter().all(|count| *count > 0), "seed {seed}: something did not happen: {seen:?}");
    }
}

impl World {
    fn begin(seed: u64) -> Self {
        let model = Rc::new(RefCell::new(Database {
            rows: BTreeMap::new(),
            epoch: 0,
            condition: Condition::Up,
            life: 1,
            host: 1,
            followed: BTreeMap::new(),
            shape: Arc::new(shape()),
            chance: Chance(seed ^ 0x5eed),
            seen: Seen::default(),
        }));
        let members = [Member::begin(&model, Arc::default()), Member::begin(&model, Arc::default())];
        members[0].node.epoch.store(1, Ordering::Relaxed);
        Self { model, members, active: 0, epoch: 1, cseq: 0, chance: Chance(seed) }
    }

    async fn live(mut self) -> Seen {
        let end = Instant::now() + HOUR;
        let (mut heals_at, mut next_at, mut wakes_at) = (Instant::now(), Instant::now(), None);
        while Instant::now() < end {
            sleep(EVERY).await;
            let now = Instant::now();
            self.register_or_leave();
            if now >= heals_at {
                self.model.borrow_mut().condition = Condition::Up;
            }
            if wakes_at.is_some_and(|at| now >= at) {
                wakes_at = None;
                self.wake();
            }
            if now >= next_at {
                next_at = now + self.seconds(5, 40);
                match self.chance.below(10) {
                    0 | 1 => heals_at = self.be(Condition::Away, 300),
                    2 => heals_at = self.be(Condition::Hanging, 60),
                    3 => heals_at = self.be(Condition::Slow(DEADLINE * 2), 60),
                    4 => heals_at = self.be(Condition::Slow(DEADLINE / 5), 60),
                    5 if wakes_at.is_none() => self.restart(if self.epoch.is_multiple_of(2) {
                        Loses::Nothing
                    } else {
                        Loses::LastMoments
                    }),
                    6 if wakes_at.is_none() => self.move_back(),
                    7 if wakes_at.is_none() => self.switch(Old::Ends),
                    8 if wakes_at.is_none() => self.switch(Old::Dies),
                    9 if wakes_at.is_none() => {
                        self.switch(Old::Sleeps);
                        wakes_at = Some(now + self.seconds(1, 20));
                    }
                    _ => {}
                }
            }
            let owed = self.members[self.active].shared.publication().owed as u64;
            let mut model = self.model.borrow_mut();
            model.seen.owed_most = model.seen.owed_most.max(owed);
            // The replica is a moment behind.
            if self.cseq.is_multiple_of(60) && model.condition == Condition::Up {
                model.followed = model.rows.clone();
            }
        }
        self.wake();
        self.model.borrow_mut().condition = Condition::Up;
        self.be_written().await;
        // The same host, without its last moments, and nobody takes over any more.
        self.restart(Loses::LastMoments);
        for _ in 0..10 {
            sleep(EVERY).await;
            self.register_or_leave();
        }
        self.be_written().await;
        self.compare()
    }

    async fn be_written(&self) {
        let until = Instant::now() + HEALED_WITHIN;
        loop {
            let told = self.members[self.active].shared.publication();
            if told.work == PublicationWork::Writing && told.owed == 0 && told.failing.is_none() {
                return;
            }
            assert!(Instant::now() < until, "not everything is written: {told:?}");
            sleep(EVERY).await;
        }
    }

    fn compare(&self) -> Seen {
        let model = self.model.borrow();
        let mut wanted = BTreeMap::new();
        for (_, binding) in self.members[self.active].node.bindings().values() {
            let row = own_row(&model.shape, &super::location::published(binding), wall_now());
            let row = row.expect("there is room for it");
            wanted.insert(row.id, row.values);
        }
        let without_time = |rows: &BTreeMap<RowId, Vec<Text>>| -> Vec<Vec<Text>> {
            let time = field(&model.shape, Field::LastModified);
            let without = |row: &Vec<Text>| {
                let mut row = row.clone();
                row.remove(time);
                row
            };
            rows.values().map(without).collect()
        };
        assert!(!wanted.is_empty());
        assert_eq!(without_time(&model.rows), without_time(&wanted));
        let mut seen = model.seen;
        for member in &self.members {
            let told = member.shared.publication();
            seen.comparisons += told.comparisons;
        }
        seen
    }

    /// A phone, at the node that is active; the other one knows it too.
    fn register_or_leave(&mut self) {
        self.cseq += 1;
        let number = self.chance.below(PHONES);
        let binding = StoredBinding {
            cseq: self.cseq,
            ..binding(&format!("u{number}@example.org"), &format!("sip:{number}"))
        };
        let leaves = self.chance.below(8) == 0;
        for member in self.members.iter().filter(|member| !member.is_asleep) {
            let change = if leaves {
                member.node.bindings().remove(&BindingKey::of(&binding));
                Change::Remove(BindingKey::of(&binding))
            } else {
                member.node.put(&binding);
                put(&binding)
            };
            member.shared.note(&change);
        }
    }

    fn be(&mut self, condition: Condition, seconds_max: u64) -> Instant {
        self.model.borrow_mut().condition = condition;
        Instant::now() + self.seconds(1, seconds_max)
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(1_000 * from + self.chance.below(1_000 * (to - from)))
    }

    fn restart(&self, loses: Loses) {
        let mut model = self.model.borrow_mut();
        model.life += 1;
        if loses == Loses::LastMoments {
            model.rows = model.followed.clone();
        }
    }

    /// Another host takes the place of the database, without its last moments.
    fn move_back(&self) {
        let mut model = self.model.borrow_mut();
        (model.life, model.host) = (model.life + 1, model.host + 1);
        if model.rows != model.followed {
            model.seen.moved_back += 1;
        }
        model.rows = model.followed.clone();
    }

    fn switch(&mut self, old: Old) {
        let before = self.active;
        (self.active, self.epoch) = (1 - before, self.epoch + 1);
        self.members[self.active].node.epoch.store(self.epoch, Ordering::Relaxed);
        match old {
            Old::Ends => {
                self.members[before].node.epoch.store(0, Ordering::Relaxed);
                self.model.borrow_mut().seen.switched += 1;
            }
            Old::Dies => {
                self.members[before].task.abort();
                self.model.borrow_mut().seen.comparisons +=
                    self.members[before].shared.publication().comparisons;
                // What it finds when it is back is what the other one holds.
                let node = Arc::new(Node::default());
                node.take_all(&self.members[self.active].node);
                self.members[before] = Member::begin(&self.model, node);
                self.model.borrow_mut().seen.killed += 1;
            }
            Old::Sleeps => self.members[before].is_asleep = true,
        }
    }

    /// Who was asleep learns that another one is active.
    fn wake(&mut self) {
        let (other, active) = (1 - self.active, self.active);
        if std::mem::take(&mut self.members[other].is_asleep) {
            self.members[other].node.epoch.store(0, Ordering::Relaxed);
            self.members[other].node.take_all(&self.members[active].node);
        }
    }
}

/// What a restart costs the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loses {
    Nothing,
    /// As one without `fsync` after a loss of power.
    LastMoments,
}

/// What becomes of the node that was active.
enum Old {
    /// It stands by.
    Ends,
    /// kill -9, in the middle of whatever it does.
    Dies,
    /// It goes on as before with what it knows, for some time.
    Sleeps,
}

impl Member {
    #[expect(clippy::arc_with_non_send_sync, reason = "all of a model runs in one thread")]
    fn begin(model: &Model, node: Arc<Node>) -> Self {
        let shared = Arc::new(Shared::default());
        let published = Arc::clone(&node) as Arc<dyn Published>;
        let mut writer: Writer<Connection> =
            Writer::new(Arc::new(Rc::clone(model)), false, Arc::clone(&shared), published);
        let task = tokio::task::spawn_local(async move { writer.work().await });
        Self { node, shared, task, is_asleep: false }
    }
}

impl Connection {
    /// A statement, or a transaction as a whole.
    async fn done<T>(
        &self,
        act: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let condition = self.model.borrow().condition;
        let told = |what: &str| StoreError { place: self.place.clone(), reason: what.to_owned() };
        let time = match condition {
            Condition::Up => Duration::from_millis(1),
            Condition::Away => Duration::ZERO,
            Condition::Hanging => DEADLINE,
            Condition::Slow(time) => time.min(DEADLINE),
        };
        sleep(time).await;
        let mut model = self.model.borrow_mut();
        if model.life != self.life {
            model.seen.broken_off += 1;
            return Err(told("the connection is gone"));
        }
        match condition {
            Condition::Away => {
                model.seen.refused += 1;
                return Err(told("nothing listens there"));
            }
            // What was asked may have come there, or not.
            Condition::Hanging if model.chance.below(2) == 0 => {
                model.seen.hung += 1;
                return Err(told("no answer"));
            }
            _ => {}
        }
        let done = act(&mut model)?;
        if time == DEADLINE {
            model.seen.done_too_late += 1;
            return Err(told("no answer"));
        }
        if model.chance.below(LOST_ONE_IN) == 0 {
            model.seen.answers_lost += 1;
            return Err(told("the answer is lost"));
        }
        Ok(done)
    }
}

impl Table for Connection {
    type Server = Model;

    fn name(_: &Model) -> String {
        "the model".to_owned()
    }

    async fn open(model: &Model, _: &Claim, epoch: Epoch) -> Result<Self, StoreError> {
        let (shape, life, host) = {
            let model = model.borrow();
            (Arc::clone(&model.shape), model.life, model.host)
        };
        let mut opened = Self { model: Rc::clone(model), shape, life, place: format!("host {host}") };
        opened.enter(epoch).await?;
        Ok(opened)
    }

    fn place(&self) -> &str {
        &self.place
    }

    fn shape(&self) -> Arc<Shape> {
        Arc::clone(&self.shape)
    }

    fn fault(&self) -> Fault {
        Fault::Server
    }

    async fn enter(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        self.done(|model| model.enter(epoch)).await
    }

    async fn change(&mut self, epoch: Epoch, gone: &[RowId], rows: &[&OwnRow]) -> Result<(), StoreError> {
        self.done(|model| {
            model.enter(epoch)?;
            for id in gone {
                model.seen.removed += u64::from(model.rows.remove(id).is_some());
            }
            let cseq = field(&model.shape, Field::Cseq);
            for row in rows {
                let before = model.rows.insert(row.id, row.values.clone());
                if let Some(before) = before
                    && let (Text::Number(before), Text::Number(now)) = (&before[cseq], &row.values[cseq])
                {
                    assert!(before <= now, "a row became older: {before}, {now}");
                }
                model.seen.written += 1;
            }
            Ok(())
        })
        .await
    }

    async fn page(&mut self, behind: i64) -> Result<Vec<Row>, StoreError> {
        let text = |text: &Text| match text {
            Text::Nothing => None,
            Text::Number(number) => Some(number.to_string()),
            Text::Word(word) => Some(word.clone()),
        };
        self.done(|model| {
            let rows = model.rows.range(RowId::Number(behind + 1)..).take(PAGE);
            Ok(rows
                .map(|(id, values)| Row::of([&id.text()].into_iter().chain(values).map(text).collect()))
                .collect())
        })
        .await
    }

    async fn remove(&mut self, epoch: Epoch, numbers: &[i64]) -> Result<(), StoreError> {
        self.done(|model| {
            model.enter(epoch)?;
            for number in numbers {
                model.seen.removed += u64::from(model.rows.remove(&RowId::Number(*number)).is_some());
            }
            Ok(())
        })
        .await
    }
}

impl Database {
    fn enter(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        if self.epoch > epoch.0 {
            self.seen.overtaken += 1;
            return Err(StoreError { place: "the model".to_owned(), reason: "overtaken".to_owned() });
        }
        self.epoch = epoch.0;
        Ok(())
    }
}

impl Chance {
    /// Splitmix64.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % end
    }
}

/// Tandem's own table.
fn shape() -> Shape {
    let number = ["contact_id", "expires", "cseq", "reg_id"].map(|name| (name, Content::Number));
    let text = [
        "username",
        "domain",
        "contact",
        "received",
        "path",
        "callid",
        "user_agent",
        "socket",
        "sip_instance",
    ]
    .map(|name| (name, Content::Text));
    let others = [("q", Content::Fraction), ("last_modified", Content::Time)];
    let tables = Tables::with_location(number.into_iter().chain(text).chain(others));
    Shape::of(&tables, &jiff::tz::TimeZone::UTC).expect("it is whole")
}

fn field(shape: &Shape, wanted: Field) -> usize {
    shape.fields().position(|(field, _)| field == wanted).expect("it is there")
}
