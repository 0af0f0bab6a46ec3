//! The witness is a key of etcd, or a row of PostgreSQL or MariaDB.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX, WitnessKind, is_active, peer_stance};
use crate::database_server::Product;
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "with_a_witness_in_etcd_a_dead_node_is_replaced",
        run: |lab| dead(lab, WitnessKind::Etcd),
    },
    Scenario { name: "with_a_witness_in_postgresql_a_dead_node_is_replaced", run: |lab| dead(lab, POSTGRES) },
    Scenario { name: "with_a_witness_in_mariadb_a_dead_node_is_replaced", run: |lab| dead(lab, MARIADB) },
    Scenario {
        name: "with_a_witness_in_etcd_who_still_reaches_it_serves_when_the_nodes_are_cut_apart",
        run: |lab| cut_off(lab, WitnessKind::Etcd),
    },
    Scenario {
        name: "with_a_witness_in_postgresql_who_still_reaches_it_serves_when_the_nodes_are_cut_apart",
        run: |lab| cut_off(lab, POSTGRES),
    },
    Scenario {
        name: "with_a_witness_in_mariadb_who_still_reaches_it_serves_when_the_nodes_are_cut_apart",
        run: |lab| cut_off(lab, MARIADB),
    },
    Scenario {
        name: "the_service_goes_on_when_etcd_dies_or_hangs_and_it_votes_again_after",
        run: |lab| gone(lab, WitnessKind::Etcd),
    },
    Scenario {
        name: "the_service_goes_on_when_its_witness_postgresql_dies_or_hangs_and_it_votes_again_after",
        run: |lab| gone(lab, POSTGRES),
    },
    Scenario {
        name: "the_service_goes_on_when_its_witness_mariadb_dies_or_hangs_and_it_votes_again_after",
        run: |lab| gone(lab, MARIADB),
    },
    Scenario {
        name: "with_etcd_gone_nobody_takes_over_and_the_status_says_why",
        run: |lab| majority_gone(lab, WitnessKind::Etcd, "etcd"),
    },
    Scenario {
        name: "with_its_witness_postgresql_gone_nobody_takes_over_and_the_status_says_why",
        run: |lab| majority_gone(lab, POSTGRES, "PostgreSQL"),
    },
    Scenario {
        name: "with_its_witness_mariadb_gone_nobody_takes_over_and_the_status_says_why",
        run: |lab| majority_gone(lab, MARIADB, "MySQL"),
    },
];

const POSTGRES: WitnessKind = WitnessKind::Database(Product::Postgres);
const MARIADB: WitnessKind = WitnessKind::Database(Product::MariaDb);

fn begin(lab: &Lab, witness: WitnessKind) -> Result<Stage<'_>> {
    let stage = Stage::begin(lab, &Settings { witness, ..Settings::default() })?;
    stage.wait_for(Side::A, "a witness that votes", |status| votes(status) && is_active(status))?;
    Ok(stage)
}

fn votes(status: &serde_json::Value) -> bool {
    status["cluster"]["witness"]["votes"] == true
}

fn dead(lab: &Lab, witness: WitnessKind) -> Result<()> {
    let mut stage = begin(lab, witness)?;
    let epoch = stage.epoch(Side::A)?;
    let mut check = stage.pair.b.command(&lab.binary);
    let told = process::output(check.arg("check").arg(lab.dir.join("b-tandem.toml")))?;
    let remark = match witness {
        WitnessKind::Host | WitnessKind::Etcd => "one server of etcd is named",
        WitnessKind::Database(Product::Postgres) => "fsync is off",
        WitnessKind::Database(Product::MariaDb) => "innodb_flush_log_at_trx_commit is not 1",
    };
    ensure!(told.contains("has the row, epoch") && told.contains(remark), "{told}");

    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;

    stage.wait_for(Side::B, "a witness that votes", votes)?;
    ensure!(stage.epoch(Side::B)? > epoch, "an epoch was used twice");
    stage.cluster.start(&stage.pair, Side::A)?;
    // A busy disk under etcd may have moved the lease meanwhile.
    let active = stage.cluster.wait_until_whole(TIME_MAX)?;
    stage.cluster.switch_over(&stage.pair, active).context("the witness does not vote for the heir")?;
    stage.wait_until_served_by(active.other())?;
    let spoken = stage.spoken();
    stage.end(&spoken)
}

fn cut_off(lab: &Lab, witness: WitnessKind) -> Result<()> {
    let stage = begin(lab, witness)?;
    let epoch = stage.epoch(Side::A)?;

    lab.cut_off(&stage.cable(Side::B))?;
    stage.wait_for(Side::A, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    stage.wait_for_service()?;
    lab.heal()?;
    stage.wait_until_ready(Side::B)?;
    ensure!(stage.epoch(Side::A)? == epoch, "the active node has lost the service with the standby");

    lab.cut_off(&stage.cable(Side::A))?;
    stage.wait_until_served_by(Side::B)?;
    lab.heal()?;

    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

fn gone(lab: &Lab, witness: WitnessKind) -> Result<()> {
    let mut stage = begin(lab, witness)?;
    let epoch = stage.epoch(Side::A)?;
    let guardian = stage.cluster.guardian(Side::A)?;

    stage.cluster.signal_witness(Signal::STOP)?;
    stage.wait_for(Side::A, "a witness that hangs", |status| !votes(status))?;
    stage.wait_for_service()?;
    stage.wait_for(Side::A, "what is wrong", |status| status["cluster"]["row"]["trouble"].is_string())?;
    stage.cluster.signal_witness(Signal::CONT)?;
    stage.wait_for(Side::A, "a witness that votes", votes)?;

    stage.cluster.kill_witness()?;
    stage.wait_for(Side::A, "a witness that does not vote", |status| !votes(status))?;
    for _ in 0..5 {
        stage.wait_for_service()?;
    }
    stage.cluster.start_witness(&stage.pair)?;
    stage.wait_for(Side::A, "a witness that votes", votes)?;

    ensure!(stage.epoch(Side::A)? == epoch, "the active node has acquired the service anew");
    ensure!(stage.cluster.guardian(Side::A)? == guardian, "it was started anew");
    stage.end(&["a"])
}

fn majority_gone(lab: &Lab, witness: WitnessKind, name: &str) -> Result<()> {
    let mut stage = begin(lab, witness)?;
    stage.cluster.kill_witness()?;
    stage.wait_for(Side::A, "a witness that does not vote", |status| !votes(status))?;

    stage.cluster.kill(Side::A)?;

    stage.wait_for(Side::B, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    let picture = process::output(&mut stage.cluster.command(&stage.pair, Side::B, &["status"]))?;
    ensure!(picture.contains(name), "the status does not say that {name} is gone:\n{picture}");
    ensure!(stage.spoken() == ["a"], "without a majority {:?} spoke", stage.spoken());
    stage.cluster.start_witness(&stage.pair)?;
    stage.wait_until_served_by(Side::B).context("when it is back")?;
    stage.end(&["a", "b"])
}
