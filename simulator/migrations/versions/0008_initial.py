"""The tables of the simulator.

Written out instead of derived from the vocabulary, so that it stays the same when that grows.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008_initial"
down_revision = None
compatible = True


def upgrade() -> None:
    op.create_table(
        "gateway_ledger",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("accepted_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("repeats", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("due_at >= accepted_at", name=op.f("gateway_ledger_due_at_check")),
        sa.CheckConstraint("outcome IN (4, 5, 6, 7)", name=op.f("gateway_ledger_outcome_check")),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", name=op.f("gateway_ledger_pkey")
        ),
        comment="Messages that the simulated gateway accepted, by attempt. repeats: later submissions of the same attempt. due_at: when the receipt of the outcome is available; null if it was lost.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateway_notices",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("status", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("copy", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", "status", "copy", name=op.f("gateway_notices_pkey")
        ),
        comment="Receipts of the simulated gateway besides the outcomes: duplicates, receipts of an earlier attempt, late bounces. due_at: when the receipt is available.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateway_rejections",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(
            "campaign_id", "number", "attempt", name=op.f("gateway_rejections_pkey")
        ),
        comment="Temporary rejections of a message by the simulated gateway before it accepted the message.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "gateway_refused_calls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("campaign_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("gateway_refused_calls_pkey")),
        comment="Calls to the simulated gateway while it was unavailable.",
    )
    op.create_index(
        op.f("gateway_refused_calls_campaign_id_idx"),
        "gateway_refused_calls",
        ["campaign_id"],
        unique=False,
    )
    op.create_table(
        "gateway_magic",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("magic", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "number", name=op.f("gateway_magic_pkey")),
        comment="Recipients whose address forces an outcome. magic: the code of that outcome.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_results",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("timeseries", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("run_results_pkey")),
        comment="Results of runs. summary, timeseries: the texts of summary.json and timeseries.csv. version: of their format. series: the id of the first of the runs that repeat each other.",
    )
    op.create_table(
        "run_setups",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("scenario_file", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("rejects", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("run_setups_pkey")),
        comment="What a started run has besides its definition. scenario_file: path of the definition. folder: where its files are. rejects: a JSON list of the imported audience files with counts of their rows.",
    )
    op.create_table(
        "run_drivers",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("paused", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("conditions", sa.Text(), nullable=False),
        sa.Column("observations", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("run_drivers_pkey")),
        comment="The drivers of a run: the first, number 0, and one for each time that the run was resumed. started_at: by the run's clock. paused: microseconds of the run's clock without a driver, all pauses until then together. options, conditions: JSON objects. observations: what it saw, as JSON, recorded at its end; null if it never came to its end.",
    )
    op.create_table(
        "audience_census",
        sa.Column("audience_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("audience_id", name=op.f("audience_census_pkey")),
        comment="What the oracle knows of the customers of an audience file, as they were imported: an archive of numpy arrays.",
    )
    op.create_table(
        "expected_outcomes",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", name=op.f("expected_outcomes_pkey")),
        comment="How some messages of a campaign must end, according to its scenario: an archive of numpy arrays.",
    )
    op.create_table(
        "driver_acknowledged",
        sa.Column("campaign_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("size >= 1", name=op.f("driver_acknowledged_size_check")),
        sa.PrimaryKeyConstraint("campaign_id", "first", name=op.f("driver_acknowledged_pkey")),
        comment="Message numbers first to first + size - 1 that the driver knows to be queued, recorded after their batch. at: real time.",
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        op.get_bind().exec_driver_sql(
            "INSERT INTO sqlite_stat1 (tbl, idx, stat)"
            " VALUES ('gateway_ledger', 'gateway_ledger', '1000000 100000 2 1')"
        )
