"""What is known of each public palmprint database; docs/databases.md is printed from it.

Files are told by their path below the root, without regard to case and with any folders before:
what an archive unpacks to may be given as it is, or one of its folders. Patterns name their groups
`subject`, `hand`, `number`, `session`, `device`, `spectrum`. Nobody here had a release at hand:
`source` says where its layout was read. Where `verified` is false it was read nowhere, and the
pattern takes the variants that we know of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["hand", "roi"]

_PALMSEG_SPLITTER = (
    "the tree in the head of a third-party splitter for IITD, Tongji and REST (build_dataset.py)"
)


@dataclass(frozen=True)
class Form:
    """One way in which the pictures of a database are named.

    Attributes:
        kind: `"hand"`, a whole hand to be located, or `"roi"`, a crop that was released.
        example: A path that it takes, for messages and for the page.
        pattern: Regular expression on the path without its suffix.
        suffix: Regular expression on the suffix.
    """

    kind: Kind
    example: str
    pattern: str
    suffix: str = r"\.\w+"


@dataclass(frozen=True)
class Database:
    """One database.

    Attributes:
        name: As `layout` takes it.
        title: As its papers call it.
        identities: Palms, as published.
        images: Pictures, as published.
        devices: What it was taken with.
        licence: On which terms.
        access: Where to ask for it.
        citation: The paper that introduced it.
        verified: Whether the layout was read in a source that had the release before it.
        source: Which source that was, or what is missing.
        forms: Tried in this order. Empty: `layouts` has a reader of its own.
        domain: A format string of the groups; `""` where there is one domain.
        domain_note: What that is, in words.
        device_codes: The group `device` → `PalmRecord.device`.
        numbers_per_palm: Where file names only count through: so many in a row are one palm.
        skip: Folders of copies that were made from the pictures: masks, augmented ones.
        notes: What else to know.
        from_memory: Which of these facts were not looked up.
    """

    name: str
    title: str
    identities: int
    images: int
    devices: str
    licence: str
    access: str
    citation: str
    verified: bool
    source: str
    forms: tuple[Form, ...] = ()
    domain: str = ""
    domain_note: str = "none"
    device_codes: tuple[tuple[str, str], ...] = ()
    numbers_per_palm: int | None = None
    skip: str = ""
    notes: str = ""
    from_memory: str = ""


_MPD_NAME = (
    r"(?P<subject>\d{3})_(?P<session>[12])_(?P<device>[hm])_(?P<hand>[lr])_(?P<number>\d{1,2})"
)
_TONGJI_NAME = r"sessions?(?P<session>[12])/(?P<number>(?!00000)0[0-5]\d{3}|06000)"

_TABLE = (
    Database(
        name="xjtu_up",
        title="XJTU-UP",
        identities=200,
        images=20_000,
        devices="iPhone 6S, Huawei Mate 8, LG G4, Samsung Galaxy Note 5, Xiaomi MI8",
        licence="on request, for research",
        access="http://gr.xjtu.edu.cn/web/bell/resource, Dexing Zhong (bell@xjtu.edu.cn)",
        citation="Shao, Zhong, Du: Towards efficient unconstrained palmprint recognition via deep "
        "distillation hashing, arXiv (2020)",
        verified=True,
        source="the project's own specification; the same in public code "
        "(`{device}/{Flash,Nature}/{L,R}_{NNN}/*`)",
        domain_note="device and illumination: IF IN HF HN LF LN SF SN MF MN",
        notes="ROI crops of 280 × 280, or photographs with key points in sidecars, one "
        "`keypoints.csv` a domain. `auto` finds it.",
    ),
    Database(
        name="tongji",
        title="Tongji contactless",
        identities=600,
        images=12_000,
        devices="a contactless box of the authors",
        licence="public links; the page states no terms",
        access="https://cslinzhang.github.io/ContactlessPalm/",
        citation="Zhang, Li, Yang, Shen, Yang: Towards contactless palmprint recognition, "
        "Pattern Recognition 69 (2017)",
        verified=True,
        source=f"{_PALMSEG_SPLITTER}; `(number − 1) // 10` in the code of CCNet "
        "(Zi-YuanYang/CCNet, data/genText.py)",
        forms=(
            Form("hand", "Original Images/session1/00001.tiff", _TONGJI_NAME, r"\.tiff?"),
            Form("roi", "ROI/session1/00001.bmp", _TONGJI_NAME),
        ),
        domain="session{session}",
        domain_note="session1, session2 (61 days apart on average)",
        numbers_per_palm=10,
        notes="Ten numbers in a row are one palm, the same in both sessions. The names tell "
        "neither hand nor person: each palm counts as a person of its own, so `open_set` may part "
        "the two hands of somebody. TIFFs are whole hands, all else is taken for crops.",
    ),
    Database(
        name="iitd",
        title="IITD touchless v1",
        identities=460,
        images=2_601,
        devices="a digital CMOS camera in a box",
        licence="on request, for research",
        access="https://www4.comp.polyu.edu.hk/~csajaykr/IITD/Database_Palm.htm",
        citation="Kumar: Incorporating cohort information for reliable palmprint authentication, "
        "ICVGIP 2008",
        verified=True,
        source=f"{_PALMSEG_SPLITTER}; a manifest builder that counted 230 people, "
        "1,301 left and 1,300 right crops",
        forms=(
            Form(
                "hand",
                "Left Hand/001_1.JPG",
                r"(?P<hand>left|right) hand/(?P<subject>\d{3})_(?P<number>\d{1,2})",
            ),
            Form(
                "roi",
                "Segmented/Left/001_1.bmp",
                r"(?P<hand>left|right)/(?P<subject>\d{3})_(?P<number>\d{1,2})",
            ),
        ),
        notes="Crops under `Segmented`, whole hands of 1600 × 1200 beside it: the counts are those "
        "of the crops.",
        from_memory="devices, citation",
    ),
    Database(
        name="polyu_contactless",
        title="PolyU contact-free 3D/2D hand images v1",
        identities=177,
        images=1_770,
        devices="Minolta VIVID 910 (range scanner with colour)",
        licence="on request, academic and non-commercial",
        access="https://www4.comp.polyu.edu.hk/~csajaykr/myhome/database_request/3dhand/Hand3D.htm",
        citation="Kanhangad, Kumar, Zhang: A unified framework for contactless hand verification, "
        "IEEE TIFS 6 (2011)",
        verified=False,
        source="no listing of the release found; counts from a paper that used it",
        forms=(
            Form(
                "hand",
                "Session1/1_1.bmp",
                r"(?:session[ _-]?(?P<session>[12])/(?:.*/)?)?"
                r"(?P<subject>\d{1,3})_(?P<number>\d{1,2})",
            ),
        ),
        domain="session{session}",
        domain_note="session1, session2 where a folder says so",
        notes="One hand a person, and the names do not say which. Range images are no pictures "
        "and are passed over.",
        from_memory="devices, licence, citation",
    ),
    Database(
        name="polyu_3d",
        title="PolyU 2D + 3D palmprint (contact)",
        identities=400,
        images=8_000,
        devices="a 3-D capture device of the authors",
        licence="academic and non-commercial",
        access="http://www4.comp.polyu.edu.hk/~biometrics/2D_3D_Palmprint.htm",
        citation="Zhang, Lu, Li, Zhang, Luo: Palmprint recognition using 3-D information, "
        "IEEE TSMC-C 39 (2009)",
        verified=False,
        source="the official page names the 3-D files `Sub3D_I_M_N.dat`; that the 2-D crops are "
        "called alike is our reading",
        forms=(
            Form(
                "roi",
                "Sub2D/Sub2D_I_1_1.bmp",
                r"sub2d_(?P<session>ii?)_(?P<subject>\d+)_(?P<number>\d+)",
            ),
        ),
        domain="session{session}",
        domain_note="session1 (I), session2 (II)",
        notes="The release numbers palms, not people. Depth (`.dat`) is passed over.",
        from_memory="citation",
    ),
    Database(
        name="polyu_ii",
        title="PolyU palmprint II (contact)",
        identities=386,
        images=7_752,
        devices="a monochrome camera with a ring light and pegs",
        licence="on request, academic and non-commercial",
        access="https://www4.comp.polyu.edu.hk/~biometrics/",
        citation="Zhang, Kong, You, Wong: Online palmprint identification, IEEE TPAMI 25 (2003)",
        verified=True,
        source="`P_F_<palm>_<number>.bmp` in the listing of an archive of 7,754 entries and in "
        "public code; the longer names, and that S is the second session, are from memory",
        forms=(
            Form(
                "hand",
                "PolyU_001_F_01.bmp",
                r"polyu_(?P<subject>\d+)_(?P<session>[fs])_(?P<number>\d+)",
            ),
            Form("roi", "P_F_102_7.bmp", r"p_(?P<session>[fs])_(?P<subject>\d+)_(?P<number>\d+)"),
        ),
        domain="session{session}",
        domain_note="session1 (F), session2 (S)",
        notes="The release numbers palms, not people.",
        from_memory="licence, citation",
    ),
    Database(
        name="casia",
        title="CASIA-PalmprintV1",
        identities=624,
        images=5_502,
        devices="a CMOS camera over a box without pegs, grey",
        licence="registration; terms on the page",
        access="http://biometrics.idealtest.org/dbDetailForUser.do?id=5",
        citation="Sun, Tan, Wang, Li: Ordinal palmprint representation for personal "
        "identification, CVPR 2005",
        verified=True,
        source="the official page: `XXXX/XXXX_(m/f)_(l/r)_XX.jpg`",
        forms=(
            Form(
                "hand",
                "0001/0001_m_l_01.jpg",
                r"(?P<subject>\d{4})_[mf]_(?P<hand>[lr])_(?P<number>\d{1,2})",
            ),
        ),
        notes="An older page counts 5,239 images of 301 people.",
        from_memory="licence, citation",
    ),
    Database(
        name="casia_ms",
        title="CASIA-Multi-Spectral-PalmprintV1",
        identities=200,
        images=7_200,
        devices="one camera, six illuminations, grey",
        licence="registration; terms on the page",
        access="http://biometrics.idealtest.org/dbDetailForUser.do?id=6",
        citation="Hao, Sun, Tan, Ren: Multispectral palm image fusion for accurate contact-free "
        "palmprint recognition, ICIP 2008",
        verified=True,
        source="the listing of an archive of 7,200 pictures; wavelengths from the official page",
        forms=(
            Form(
                "hand",
                "images/001_l_460_01.jpg",
                r"(?P<subject>\d{3,4})_(?P<hand>[lr])_"
                r"(?P<spectrum>460|630|700|850|940|WHT)_(?P<number>\d{1,2})",
            ),
        ),
        domain="{spectrum}",
        domain_note="wavelength in nm: 460 630 700 850 940, and WHT (white)",
        notes="Six samples a hand and wavelength, three in each of two sessions: the names do not "
        "tell the session.",
        from_memory="licence, citation",
    ),
    Database(
        name="mpdv2",
        title="MPDv2 (Tongji mobile palmprint)",
        identities=400,
        images=16_000,
        devices="a Huawei and a Xiaomi phone",
        licence="public links; the page states no terms",
        access="https://cslinzhang.github.io/MobilePalmPrint/",
        citation="Zhang, Zhang, Zhang, Li, Li, Huang: Towards palmprint verification on "
        "smartphones, arXiv 2003.13266 (2020)",
        verified=True,
        source="public code that walks it (`001_1_h_l_01.jpg`); folders of MPD from its official "
        "page; that m is the Xiaomi (MI) follows from the two phones",
        forms=(
            Form("roi", "ROI/001_1_h_l_01.jpg", rf"[^/]*ROI[^/]*/(?:.*/)?{_MPD_NAME}"),
            Form("roi", "001_1_h_l_01_ROI.jpeg", rf"{_MPD_NAME}_ROI"),
            Form("hand", "original palms/001_1_h_l_01.jpg", _MPD_NAME),
        ),
        domain="{device}{session}",
        domain_note="phone and session: H1 H2 M1 M2",
        device_codes=(("H", "huawei"), ("M", "xiaomi")),
        skip=r"1-finger_gap_point_detection|2-point_pair_classification",
    ),
    Database(
        name="ntu_pi",
        title="NTU-PI-v1 (palmprints from the Internet)",
        identities=2_035,
        images=7_881,
        devices="whatever the Internet was photographed with",
        licence="signed release agreement, research",
        access="https://github.com/matkowski-voy/Palmprint-Recognition-in-the-Wild, "
        "adamskong@ntu.edu.sg",
        citation="Matkowski, Chai, Kong: Palmprint recognition in uncontrolled and uncooperative "
        "environment, IEEE TIFS 15 (2020)",
        verified=True,
        source="the demonstration set NTU-PI-demo in the authors' repository, which their scripts "
        "name in place of NTU-PI-v1",
        forms=(Form("hand", "img/1-L1.jpg", r"(?P<subject>\d+)-(?P<hand>[LR])(?P<number>\d+)"),),
        skip=r"imgMask|imgGen|flip",
        notes="Cut-out hands, before they were mirrored (`flip`), masked (`imgMask`) or rotated "
        "(`imgGen`): those copies are passed over.",
    ),
    Database(
        name="ntu_cp",
        title="NTU-CP-v1 (contactless)",
        identities=655,
        images=2_478,
        devices="Canon EOS 500D or Nikon D70s",
        licence="signed release agreement, research",
        access="https://github.com/matkowski-voy/Palmprint-Recognition-in-the-Wild, "
        "adamskong@ntu.edu.sg",
        citation="Matkowski, Chai, Kong: Palmprint recognition in uncontrolled and uncooperative "
        "environment, IEEE TIFS 15 (2020)",
        verified=False,
        source="no listing of the release found: the names of NTU-PI-v1 and those with underscores "
        "are taken",
        forms=(
            Form(
                "hand",
                "0001_L_1.jpg",
                r"(?P<subject>\d+)[-_](?P<hand>[LR])[-_]?(?P<number>\d+)",
            ),
        ),
        skip=r"imgMask|imgGen|flip",
        from_memory="devices",
    ),
    Database(
        name="rest",
        title="REST (REgim Sfax Tunisian hand database 2016)",
        identities=358,
        images=1_948,
        devices="one camera, no pegs",
        licence="open access on IEEE DataPort, with an acknowledgement",
        access="https://ieee-dataport.org/open-access/rest-database",
        citation="Charfi, Trichili, Alimi, Solaiman: Local invariant representation for "
        "multi-instance touchless palmprint identification, IEEE SMC 2016",
        verified=True,
        source=f"{_PALMSEG_SPLITTER}; folders and ends of names also in AngeloUNIMI/FusionNet, "
        "launch_process_REST.m",
        forms=(
            Form(
                "hand",
                "p1/Hand/Left/p1_l_1.jpg",
                r"p(?P<subject>\d+)/hand/(?P<hand>l(?=eft/)|r(?=ight/))\w+/"
                r"p(?P=subject)_(?P=hand)_(?P<number>\d+)",
            ),
        ),
        from_memory="devices, citation",
    ),
    Database(
        name="coep",
        title="COEP palmprint",
        identities=168,
        images=1_344,
        devices="one digital camera, with pegs",
        licence="public; terms not stated",
        access="College of Engineering Pune, http://www.coep.org.in",
        citation="College of Engineering Pune: COEP palm print database",
        verified=False,
        source="no listing of the release found; counts from public code that used it",
        forms=(
            Form(
                "hand",
                "Image_001_1.JPG",
                r"(?:[a-z]+[ _-]?)?(?P<subject>\d{1,3})[_-](?P<number>\d{1,2})",
            ),
            Form("hand", "001/1.JPG", r"(?P<subject>\d{1,3})/(?P<number>\d{1,2})"),
        ),
        notes="Eight pictures of one hand a person; the names do not say which hand.",
        from_memory="devices, access",
    ),
)

DATABASES: dict[str, Database] = {database.name: database for database in _TABLE}
