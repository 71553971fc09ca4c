"""Customers as imported."""

from simulator.audience.row_parser import CustomerRecord

PLAIN = CustomerRecord(
    customer_id="C1",
    email=None,
    mobile=None,
    mobile_e164=None,
    loyalty_member=False,
    unsubscribed_email=False,
    unsubscribed_sms=False,
    ndnc=False,
    hard_bounces_email=0,
    soft_bounces_email=0,
    hard_bounces_sms=0,
    soft_bounces_sms=0,
    last_store=None,
    profile=None,
    coupon_id=None,
    coupon_expires=None,
    coupon_redeemed=False,
    custom="{}",
)
"""The record of a row with nothing but a customer_id."""
