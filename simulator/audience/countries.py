"""Countries as exports write them, as two-letter codes (ISO 3166-1 alpha-2)."""

import re
from functools import cache

# The first three letters are the alpha-3 code, the others the alpha-2 code.
_ALPHA_3_AND_2 = """\
ABWAW AFGAF AGOAO AIAAI ALAAX ALBAL ANDAD AREAE ARGAR ARMAM ASMAS ATAAQ ATFTF ATGAG AUSAU AUTAT
AZEAZ BDIBI BELBE BENBJ BESBQ BFABF BGDBD BGRBG BHRBH BHSBS BIHBA BLMBL BLRBY BLZBZ BMUBM BOLBO
BRABR BRBBB BRNBN BTNBT BVTBV BWABW CAFCF CANCA CCKCC CHECH CHLCL CHNCN CIVCI CMRCM CODCD COGCG
COKCK COLCO COMKM CPVCV CRICR CUBCU CUWCW CXRCX CYMKY CYPCY CZECZ DEUDE DJIDJ DMADM DNKDK DOMDO
DZADZ ECUEC EGYEG ERIER ESHEH ESPES ESTEE ETHET FINFI FJIFJ FLKFK FRAFR FROFO FSMFM GABGA GBRGB
GEOGE GGYGG GHAGH GIBGI GINGN GLPGP GMBGM GNBGW GNQGQ GRCGR GRDGD GRLGL GTMGT GUFGF GUMGU GUYGY
HKGHK HMDHM HNDHN HRVHR HTIHT HUNHU IDNID IMNIM INDIN IOTIO IRLIE IRNIR IRQIQ ISLIS ISRIL ITAIT
JAMJM JEYJE JORJO JPNJP KAZKZ KENKE KGZKG KHMKH KIRKI KNAKN KORKR KWTKW LAOLA LBNLB LBRLR LBYLY
LCALC LIELI LKALK LSOLS LTULT LUXLU LVALV MACMO MAFMF MARMA MCOMC MDAMD MDGMG MDVMV MEXMX MHLMH
MKDMK MLIML MLTMT MMRMM MNEME MNGMN MNPMP MOZMZ MRTMR MSRMS MTQMQ MUSMU MWIMW MYSMY MYTYT NAMNA
NCLNC NERNE NFKNF NGANG NICNI NIUNU NLDNL NORNO NPLNP NRUNR NZLNZ OMNOM PAKPK PANPA PCNPN PERPE
PHLPH PLWPW PNGPG POLPL PRIPR PRKKP PRTPT PRYPY PSEPS PYFPF QATQA REURE ROURO RUSRU RWARW SAUSA
SDNSD SENSN SGPSG SGSGS SHNSH SJMSJ SLBSB SLESL SLVSV SMRSM SOMSO SPMPM SRBRS SSDSS STPST SURSR
SVKSK SVNSI SWESE SWZSZ SXMSX SYCSC SYRSY TCATC TCDTD TGOTG THATH TJKTJ TKLTK TKMTM TLSTL TONTO
TTOTT TUNTN TURTR TUVTV TWNTW TZATZ UGAUG UKRUA UMIUM URYUY USAUS UZBUZ VATVA VCTVC VENVE VGBVG
VIRVI VNMVN VUTVU WLFWF WSMWS YEMYE ZAFZA ZMBZM ZWEZW
"""

_OTHER_NAMES_BY_CODE = {
    "GB": ("uk", "u.k.", "great britain", "england", "scotland", "wales", "northern ireland"),
    "US": ("u.s.", "u.s.a.", "united states of america"),
    "AE": ("uae", "u.a.e."),
    "NL": ("holland", "the netherlands"),
    "CZ": ("czechia", "czech republic"),
    "TR": ("turkey",),
    "CI": ("ivory coast",),
    "CV": ("cape verde",),
    "SZ": ("eswatini", "swaziland"),
    "MK": ("north macedonia", "macedonia"),
    "MM": ("burma",),
    "VN": ("vietnam",),
    "RU": ("russia", "russian federation"),
    "KR": ("south korea", "republic of korea", "korea, republic of", "korea"),
    "KP": ("north korea",),
    "SY": ("syria",),
    "LA": ("laos",),
    "IR": ("iran",),
    "MD": ("moldova",),
    "TZ": ("tanzania",),
    "VE": ("venezuela",),
    "BO": ("bolivia",),
    "BN": ("brunei", "brunei darussalam"),
    "HK": ("hong kong",),
    "MO": ("macau",),
    "TW": ("taiwan",),
    "PS": ("palestine",),
}
"""Names that people use besides the official ones, in lower case."""

_CALLING_CODE = re.compile(r"\+?[1-9]\d{0,2}", re.ASCII)

_CODES_BY_OTHER_NAME = {
    name: code for code, names in _OTHER_NAMES_BY_CODE.items() for name in names
}
_CODES_BY_ALPHA_3 = {entry[:3]: entry[3:] for entry in _ALPHA_3_AND_2.split()}
_ALPHA_2_CODES = frozenset(_CODES_BY_ALPHA_3.values()) | {"XK"}


def parse_country(text: str) -> str | None:
    """Return the two-letter code of a country that is written as a code or a name, or None.

    Names are read in the languages that phonenumbers has, such as "Deutschland". A calling code,
    such as +44, stands for the main country that has it.
    """
    code = text.upper()
    if code in _ALPHA_2_CODES:
        return code
    if _CALLING_CODE.fullmatch(text):
        return _find_main_country(int(text))
    name = " ".join(text.casefold().split())
    return _CODES_BY_ALPHA_3.get(code) or _CODES_BY_OTHER_NAME.get(name) or _load_names().get(name)


def _find_main_country(calling_code: int) -> str | None:
    import phonenumbers

    code = phonenumbers.region_code_for_country_code(calling_code)
    return code if code in _ALPHA_2_CODES else None


@cache
def _load_names() -> dict[str, str]:
    """Return the codes of countries by their names in lower case, without ambiguous ones."""
    # Loading them takes 0.3 s of CPU time, and few files name their countries.
    from phonenumbers.geodata.locale import LOCALE_DATA

    codes: dict[str, set[str]] = {}
    for code, names in LOCALE_DATA.items():
        for name in names.values():
            if not name.startswith("*"):  # the name of another language
                codes.setdefault(name.casefold(), set()).add(code)
    return {name: min(owners) for name, owners in codes.items() if len(owners) == 1}
