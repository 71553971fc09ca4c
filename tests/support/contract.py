"""The lifecycle and the reasons of the design, independent of `tracker.status`.

A reason has its category, its slug and its step; `any` is whatever step its check or failure has.
"""

DRAWING = """
    queued            -> about_to_be_sent
    queued            -> not_sent
    about_to_be_sent  -> not_sent
    about_to_be_sent  -> in_gateway
    in_gateway        -> delivered
    in_gateway        -> hard_bounced
    in_gateway        -> soft_bounced
    in_gateway        -> not_delivered
    soft_bounced      -> in_gateway
    delivered         -> hard_bounced
"""


ARROWS = frozenset(
    (source, target)
    for source, _, target in (line.split() for line in DRAWING.strip().splitlines())
)


REASONS = """
    internally_suppressed  organization_disabled      suppress
    internally_suppressed  configuration              suppress
    internally_suppressed  unsubscribed               suppress
    internally_suppressed  ndnc                       suppress
    internally_suppressed  bounced_repeatedly         suppress
    internally_suppressed  message_limit              suppress
    internally_suppressed  out_of_credit              dispatch
    incomplete_or_invalid  email_missing              validate
    incomplete_or_invalid  mobile_missing_or_invalid  validate
    incomplete_or_invalid  not_in_loyalty_program     validate
    incomplete_or_invalid  coupon_configuration       validate
    incomplete_or_invalid  coupon_id_missing          validate
    incomplete_or_invalid  coupon_date_format         validate
    incomplete_or_invalid  coupon_expired             validate
    incomplete_or_invalid  coupon_redeemed            validate
    incomplete_or_invalid  data_missing               validate
    incomplete_or_invalid  gateway_configuration      validate
    system_error           timeout                    dispatch
    system_error           handler_not_found          dispatch
    system_error           coupon_issue               validate
    system_error           referral_service           validate
    system_error           subscription_service       suppress
    system_error           rule_failed                any
    system_error           step_failed                any
    internally_suppressed  custom_rule                any
    internally_suppressed  duplicate_recipient        suppress
    internally_suppressed  cancelled                  any
"""


CONTRACT = [
    (category, slug, None if step == "any" else step)
    for category, slug, step in (line.split() for line in REASONS.strip().splitlines())
]


STATUSES = {
    "queued": 0,
    "about_to_be_sent": 1,
    "not_sent": 2,
    "in_gateway": 3,
    "soft_bounced": 4,
    "not_delivered": 5,
    "delivered": 6,
    "hard_bounced": 7,
}
