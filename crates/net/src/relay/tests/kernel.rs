//! What a worker gives to the kernel and takes back. What the kernel does with it is tried in `host`.

use media::figures::Carried;

use super::*;
use crate::relay::{KernelPath, KernelWay, PacketEnds};

#[test]
fn a_direction_is_given_behind_its_packet_and_taken_back_at_each_word() {
    let (bench, kernel) = begin();
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    assert_eq!(call.callee.receive().0, rtp(1, 7));
    let of_caller = PacketEnds { from: call.caller.at(), to: call.ports_of_caller[0] };
    let to_callee = PacketEnds { from: call.ports_of_callee[0], to: call.callee.at() };
    kernel.until(&[(of_caller, to_callee)]);

    // The latch of one side is where packets of the other one go: both are given anew.
    call.callee.send(&call.ports_of_callee, &rtp(1, 8));
    assert_eq!(call.caller.receive().0, rtp(1, 8));
    let of_callee = PacketEnds { from: call.callee.at(), to: call.ports_of_callee[0] };
    let to_caller = PacketEnds { from: call.ports_of_caller[0], to: call.caller.at() };
    kernel.until(&[(of_callee, to_caller)]);
    call.caller.send(&call.ports_of_caller, &rtp(2, 7));
    kernel.until(&[(of_caller, to_callee), (of_callee, to_caller)]);
    assert_eq!(bench.relay.path(), RelayPath { in_kernel: 2, why_not: None });

    bench.order(&call, Output::Change(STREAM, call.plan()));
    kernel.until(&[]);
    call.caller.send(&call.ports_of_caller, &rtp(3, 7));
    kernel.until(&[(of_caller, to_callee)]);
    bench.order(&call, Output::End(STREAM));
    kernel.until(&[]);
    assert_eq!(bench.relay.path().in_kernel, 0);
}

#[test]
fn what_the_kernel_counts_is_in_the_figures_and_is_no_loss() {
    let (bench, kernel) = begin();
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    kernel.until_count(1);

    // It sends on the numbers 2 to 41, and 42 comes to the worker.
    kernel.hear(|carried| {
        carried.packets += 40;
        carried.heard_at = Some(clocks::instant());
        let source = carried.source.as_mut().expect("one was heard");
        (source.highest, source.received) = (41, source.received + 40);
    });
    call.caller.send(&call.ports_of_caller, &rtp(42, 7));
    bench.until("relay_in_kernel", 40);
    bench.until("relay_received", 42);
    bench.order(&call, Output::End(STREAM));

    let figures = bench.figures().caller.received;
    assert_eq!((figures.packets, figures.lost), (42, 0));
}

#[test]
fn a_talk_in_the_kernel_is_not_silent_and_its_end_there_is() {
    let (bench, kernel) = begin_with(Duration::from_millis(1_500), Kernel::default());
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    kernel.until_count(1);
    let later = clocks::instant() + Duration::from_secs(2);
    kernel.hear(|carried| carried.heard_at = Some(later));

    while bench.report() != RelayReport::Silent {}

    assert!(clocks::instant() >= later + Duration::from_millis(1_500));
}

#[test]
fn what_the_kernel_refuses_the_worker_sends_on() {
    let (bench, _kernel) = begin_with(SILENCE, Kernel { refuses: true, ..Kernel::default() });
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);

    for number in 1..4 {
        call.caller.send(&call.ports_of_caller, &rtp(number, 7));
        assert_eq!(call.callee.receive().0, rtp(number, 7));
    }
    bench.order(&call, Output::End(STREAM));

    let figures = bench.figures().caller.received;
    assert_eq!((figures.packets, figures.lost), (3, 0));
}

#[test]
fn the_kernel_has_nothing_between_families_at_a_standby_or_where_it_is_off() {
    let (bench, kernel) = begin();
    let other = bench.call(2, "127.0.0.1", "::1");
    bench.begin(&other);
    other.caller.send(&other.ports_of_caller, &rtp(1, 7));
    assert_eq!(other.callee.receive().0, rtp(1, 7));
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    kernel.until_count(1);

    bench.relay.reload(&RelayRules { fast_path: false, ..RelayRules::default() });
    kernel.until(&[]);
    assert_eq!(bench.relay.path().why_not.as_deref(), Some("it is off in the configuration"));
    call.caller.send(&call.ports_of_caller, &rtp(2, 7));
    bench.until("relay_sent", 3);
    kernel.until(&[]);
    bench.relay.reload(&RelayRules::default());
    bench.pause();
    call.caller.send(&call.ports_of_caller, &rtp(3, 7));
    kernel.until_count(1);

    bench.lease(LeaseMirror::none());
    kernel.until(&[]);
}

fn begin() -> (Bench, Arc<Kernel>) {
    begin_with(SILENCE, Kernel::default())
}

fn begin_with(silence: Duration, kernel: Kernel) -> (Bench, Arc<Kernel>) {
    let kernel = Arc::new(kernel);
    (Bench::with_kernel(silence, Ok(Arc::clone(&kernel) as Arc<dyn KernelPath>)), kernel)
}

/// A kernel that has what it is given, and hears what a test says.
#[derive(Default)]
struct Kernel {
    has: Mutex<BTreeMap<PacketEnds, (PacketEnds, Carried)>>,
    refuses: bool,
}

impl Kernel {
    fn until(&self, ways: &[(PacketEnds, PacketEnds)]) {
        let wanted: BTreeMap<_, _> = ways.iter().copied().collect();
        wait_for(|| {
            let has = self.has.lock().expect("no test panics inside");
            (has.iter().map(|(came, (leaves, _))| (*came, *leaves)).collect::<BTreeMap<_, _>>() == wanted)
                .then_some(())
        });
    }

    fn until_count(&self, count: usize) {
        wait_for(|| (self.has.lock().expect("no test panics inside").len() == count).then_some(()));
    }

    fn hear(&self, change: impl Fn(&mut Carried)) {
        self.has.lock().expect("no test panics inside").values_mut().for_each(|(_, carried)| change(carried));
    }
}

impl KernelPath for Kernel {
    fn set(&self, came: PacketEnds, way: &KernelWay<'_>, carried: &Carried) -> io::Result<()> {
        if self.refuses {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.has.lock().expect("no test panics inside").insert(came, (way.leaves, *carried));
        Ok(())
    }

    fn is_right(&self, _: PacketEnds) -> bool {
        true
    }

    fn carried(&self, came: PacketEnds) -> Option<Carried> {
        self.has.lock().expect("no test panics inside").get(&came).map(|(_, carried)| *carried)
    }

    fn take_back(&self, came: PacketEnds) -> Option<Carried> {
        self.has.lock().expect("no test panics inside").remove(&came).map(|(_, carried)| carried)
    }
}
