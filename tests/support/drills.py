"""Results of drills."""

from collections.abc import Mapping
from typing import Any

from drills.results import CampaignOutcome, DrillResult, Observation

HOSTILE = "a | b\n| c |\n## Forged\n```\n<script>alert(1)</script> [x](https://x.example) \u202e"


def make_drill(**changes: Any) -> DrillResult:
    observation = Observation(
        seconds=10.0,
        page=[HOSTILE],
        page_answers={"campaigns": HOSTILE},
        health_status="down",
        cause="broker",
        parts={"broker": HOSTILE},
        metrics=[HOSTILE],
        log=[HOSTILE, "`" * 5],
        log_left_out=2,
    )
    values: Mapping[str, Any] = {
        "incident": "broker hung",
        "place": "sqlite",
        "harm": "`kill -STOP`",
        "repair": "`kill -9`",
        "expected_causes": ["broker"],
        "expected_alert": "SendtraceBrokerUnavailable",
        "skipped": None,
        "observation": observation,
        "noticed_after": 2.5,
        "harm_seconds": 70.0,
        "healthy_after": 3.0,
        "alerts": [],
        "campaign": CampaignOutcome(
            exit_code=0, messages=10, lost=0, accepted_twice=0, resumed=0, output=""
        ),
        "findings": [],
    }
    return DrillResult(**{**values, **changes})
