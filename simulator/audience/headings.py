"""Usual headings of exports, and the columns that they mean."""

import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

SYNONYMS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "customer_id": (
            "customer id", "customer no", "customer number", "customer key", "cust id", "client id",
            "contact id", "contact key", "subscriber id", "subscriber key", "user id", "member id",
            "person id", "lead id", "record id", "account id", "external id", "crm id",
            "kundennummer", "kundennr", "kunden id", "numero client", "id client", "id cliente",
            "identifiant", "ग्राहक संख्या", "uuid", "guid", "id",
        ),
        "email": (
            "email", "email address", "email id", "primary email", "contact email", "email 1",
            "email address 1", "emailadresse", "adresse email", "courriel", "correo electronico",
            "correo", "personal email", "work email", "mail", "mail address",
            "ईमेल", "ईमेल पता",
        ),
        "mobile": (
            "mobile", "mobile no", "mobile number", "mobile phone", "mobile phone number",
            "cell", "cell phone", "cell phone number", "cell number", "cellular", "msisdn",
            "sms number", "sms phone", "handy", "handynummer", "mobilnummer", "mobiltelefon",
            "mobil", "portable", "telephone portable", "movil", "celular", "phone", "phone no",
            "phone number", "phone 1", "primary phone", "contact no", "contact number",
            "contact phone", "telephone", "telephone number", "tel", "tel no", "telefon",
            "telefonnummer", "telefono", "मोबाइल नंबर", "मोबाइल", "फ़ोन नंबर", "फोन नंबर",
        ),
        "region": (
            "region", "country", "country code", "country region", "mailing country",
            "billing country", "phone country", "land", "pays", "pais",
            "देश",
        ),
        "loyalty_member": (
            "loyalty member", "loyalty program", "loyalty program member", "loyalty", "is member",
            "club member", "member",
        ),
        "unsubscribed": (
            "unsubscribed", "unsubscribe", "opt out", "opted out", "is unsubscribed",
            "do not contact", "global opt out", "marketing opt out", "abgemeldet",
            "werbesperre", "kontaktsperre", "desinscrit", "desabonne", "ne plus contacter",
            "ne pas contacter", "no contactar",
        ),
        "unsubscribed_email": (
            "unsubscribed email", "email opt out", "email opted out", "email unsubscribed",
            "opted out of email", "has opted out of email", "do not email",
            "unsubscribed from email", "newsletter abgemeldet", "email abgemeldet",
            "desinscrit email", "desabonne email", "desinscrit newsletter",
        ),
        "unsubscribed_sms": (
            "unsubscribed sms", "sms opt out", "sms opted out", "sms unsubscribed", "do not text",
            "opted out of sms", "do not sms", "mobile opt out", "sms abgemeldet", "desinscrit sms",
            "desabonne sms",
        ),
        "subscribed": (
            "subscribed", "opt in", "opted in", "marketing consent", "accepts marketing", "consent",
            "newsletter",
        ),
        "subscribed_email": (
            "subscribed email", "email opt in", "email opted in", "email consent",
            "email marketing consent", "accepts email marketing", "email subscribed",
        ),
        "subscribed_sms": (
            "subscribed sms", "sms opt in", "sms opted in", "sms consent", "sms marketing consent",
            "accepts sms marketing",
        ),
        "ndnc": ("ndnc", "dnd", "dnc", "do not call", "national do not call", "do not call list"),
        "hard_bounces": ("hard bounces", "hard bounce count", "hard bounce", "bounces"),
        "soft_bounces": ("soft bounces", "soft bounce count", "soft bounce"),
        "coupon_id": (
            "coupon id", "coupon", "coupon code", "coupon number", "voucher", "voucher code",
            "voucher id", "promo code", "gutschein", "gutscheincode",
        ),
        "coupon_expires": (
            "coupon expires", "coupon expiry", "coupon expiry date", "coupon expiration date",
            "coupon valid until", "voucher expires", "voucher expiry", "voucher valid until",
            "valid until", "gutschein gultig bis", "gultig bis",
        ),
        "coupon_redeemed": (
            "coupon redeemed", "coupon used", "voucher redeemed", "voucher used", "redeemed",
            "eingelost",
        ),
        "last_store": (
            "last store", "last store visited", "last visited store", "home store",
            "preferred store", "store name", "store", "branch", "filiale",
        ),
        "profile": (
            "profile", "customer profile", "segment", "customer segment", "customer group", "tier",
            "loyalty tier",
        ),
    }
)  # fmt: skip
"""Headings by the column that they mean, the most telling first."""


def normalize_heading(heading: str) -> str:
    """Return a heading in lower case, without accents, punctuation and space."""
    folded = unicodedata.normalize("NFKD", heading.casefold())
    return "".join(character for character in folded if character.isalnum())


_RANKS = {
    normalize_heading(synonym): (column, rank)
    for column, synonyms in SYNONYMS.items()
    for rank, synonym in enumerate((column, *synonyms))
}


def guess_columns(headings: Sequence[str]) -> dict[str, str]:
    """Return the columns that headings mean, by heading; those without a known meaning are missing.

    If several headings mean the same column, the most telling one gets it: "Mobile" before "Phone".
    """
    best: dict[str, tuple[int, str]] = {}
    for heading in headings:
        column, rank = _RANKS.get(normalize_heading(heading), (None, 0))
        if column is not None and (column not in best or rank < best[column][0]):
            best[column] = rank, heading
    return {heading: column for column, (_, heading) in best.items()}
