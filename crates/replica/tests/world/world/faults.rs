//! What goes wrong between two nodes, and with them.

use replica::{
    ConnectionNumber, Deframer, Epoch, Holdings, Origin, Receiver, ReceiverOutput, Sender, SenderOutput,
};

use super::{Event, KEY, MS, World, known, origin};

impl World {
    pub(super) fn fault(&mut self) -> Result<(), String> {
        if self.is_calm {
            return Ok(());
        }
        let pause = self.rng.between(5, 1_500) * MS;
        self.schedule(pause, Event::Fault);
        match self.rng.below(10) {
            0 | 1 => self.cut()?,
            2 => {
                self.count("standby stalled");
                let most = if self.rng.chance(300) { 8_000 } else { 300 };
                self.stalled_until = self.now + self.rng.between(5, most) * MS;
            }
            3 => {
                self.count("owner refusing");
                self.refuses_until = self.now + self.rng.between(1, 200) * MS;
            }
            4 => self.lose_frame = true,
            5 => self.forge_ack = true,
            6 if self.rng.chance(300) => {
                self.lies_until = self.now + self.rng.between(1_000, 20_000) * MS;
            }
            7 => self.restart_standby()?,
            8 => self.change_roles()?,
            9 => self.old_active_speaks()?,
            _ => {}
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), String> {
        if self.connection.take().is_none() {
            return Ok(());
        }
        self.count("connection cut");
        let ready = self.sender.ready();
        self.count_if("cut within a repair", (1..99).contains(&ready));
        self.receiver.disconnected(ConnectionNumber(self.connections));
        self.forget_bytes();
        let pause = self.rng.between(1, 400) * MS;
        self.schedule(pause, Event::Connect);
        self.with_sender(|sender, _, out| sender.disconnected(out))
    }

    pub(super) fn connect(&mut self) -> Result<(), String> {
        if self.connection.is_some() {
            return Ok(());
        }
        self.connections += 1;
        self.connection = Some(self.connections);
        self.deframers.insert(self.connections, Default::default());
        self.with_sender(|sender, now, out| sender.connected(now, out))
    }

    fn restart_standby(&mut self) -> Result<(), String> {
        self.count("standby started again");
        self.cut()?;
        let standby = usize::from(1 - self.active);
        self.incarnations[standby] = self.rng.next();
        let me = origin(1 - self.active, self.incarnations);
        // What its own disk brings back is not all, and not of the last moment.
        let mut holdings = Holdings::new();
        let places: Vec<_> = self.tables[standby].iter().map(|(place, _)| place).collect();
        for place in places {
            if self.rng.chance(100) {
                self.tables[standby].remove(place);
            } else if let Some(row) = self.tables[standby].at(place) {
                holdings.restore(&KEY, me, row.kind, &row.key, place);
            }
        }
        self.receiver = Receiver::new(me, KEY, &known(), Epoch(0), holdings);
        // What it held is forgotten as far as G2 goes: two nodes failed one after the other.
        self.held.clear();
        Ok(())
    }

    fn change_roles(&mut self) -> Result<(), String> {
        self.count("roles changed");
        self.cut()?;
        self.check_held()?;
        self.waiting.clear();
        self.boots += 1;
        self.epoch += 1;
        (self.stalled_until, self.refuses_until) = (0, 0);
        let old_active = self.active;
        self.active = 1 - self.active;
        let me = origin(self.active, self.incarnations);
        let nothing =
            || Receiver::new(Origin { node: 9, incarnation: 0 }, KEY, &[], Epoch(0), Holdings::new());
        let holdings = std::mem::replace(&mut self.receiver, nothing()).into_holdings();
        let sender = Sender::new(me, Epoch(self.epoch), KEY, holdings);
        let old = std::mem::replace(&mut self.sender, sender);
        let other = origin(old_active, self.incarnations);
        self.receiver = Receiver::new(other, KEY, &known(), Epoch(0), old.into_holdings());
        // From here on the new active's table is what is true.
        let truth = self.tables[usize::from(self.active)].contents();
        for (key, changes) in &mut self.history {
            let content = truth.get(key).map(|(content, _)| content.clone());
            if changes.last().map(|(_, last)| last) != Some(&content) {
                self.changes += 1;
                changes.push((self.changes, content));
            }
        }
        Ok(())
    }

    /// A node that does not know that its time is over calls the standby.
    fn old_active_speaks(&mut self) -> Result<(), String> {
        if self.receiver.view(self.instant()).epoch.0 < self.epoch || self.now < self.stalled_until {
            return Ok(());
        }
        let old = Origin { node: self.active, incarnation: 4 };
        let mut sender = Sender::new(old, Epoch(self.epoch - 1), KEY, Holdings::new());
        let (connection, mut from_sender, mut out) = (ConnectionNumber(u64::MAX), Vec::new(), Vec::new());
        sender.connected(self.instant(), &mut from_sender);
        let [SenderOutput::Send(bytes)] = &from_sender[..] else { return Err("no hello".to_owned()) };
        let (mut deframer, session) = (Deframer::new(), self.receiver.view(self.instant()).active);
        deframer.push(bytes);
        let frame = deframer.next_frame().map_err(|error| format!("{error:?}"))?.ok_or("no frame")?;
        self.receiver.handle_frame(self.instant(), connection, frame, &mut out);
        let [ReceiverOutput::Send(_, answer), ReceiverOutput::Close(closed, _)] = &out[..] else {
            return Err(format!("an old active node is let in: {out:?}"));
        };
        if *closed != connection || self.receiver.view(self.instant()).active != session {
            return Err("an old active node disturbs the one that is heard".to_owned());
        }
        deframer.push(answer);
        let frame = deframer.next_frame().map_err(|error| format!("{error:?}"))?.ok_or("no frame")?;
        from_sender.clear();
        sender.handle_frame(self.instant(), frame, &mut from_sender);
        if !from_sender.contains(&SenderOutput::Superseded(Epoch(self.epoch))) {
            return Err(format!("an old active node does not learn it: {from_sender:?}"));
        }
        self.count("lower epoch turned away");
        Ok(())
    }
}
