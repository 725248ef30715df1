"""The wording of phantom reports: sentence templates, synonyms and names, no logic.

A template is keyed by what it says, so a sentence can be traced back to its fact. Slots in braces
are facts (`region`, `amount`, `size`, `degree`, `branch`, ...) or synonyms (upper-case).
Structure and register follow the notes on reports in `docs/phantom.md`; the sentences are our own.
"""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "IS": ("is seen", "is visible", "can be seen", "was observed", "is noted"),
    "ARE": ("are seen", "are visible", "can be seen", "were observed", "are noted"),
    "HYPER": (
        "hyperfluorescence",
        "hyperfluorescence",
        "bright fluorescence",
        "hyper-fluorescence",
    ),
    "HYPER_ADJ": ("hyperfluorescent", "bright", "hyper-fluorescent"),
    "LEAK": ("leakage", "dye leakage", "fluorescence leakage", "fluorescein leakage"),
    "NONPERFUSION": ("non-perfusion", "capillary non-perfusion", "capillary closure"),
    "NEW_VESSELS": ("new vessels", "neovascular tufts"),
    "BLOCK": ("blocked fluorescence", "masked fluorescence", "fluorescence blockage"),
    "LATE": ("in the late phase", "in the late stage", "late"),
    "EARLY": ("in the early phase", "in the early stage", "early"),
    "NO": ("No obvious", "No", "No definite"),
    "MACULA": ("macula", "macular area", "macular region"),
    "DISC": ("optic disc", "optic disc", "disc"),
    "NORMAL": ("normal", "basically normal", "within normal limits"),
}

REGIONS: dict[str, tuple[str, ...]] = {
    "superotemporal quadrant": (
        "the superotemporal quadrant",
        "the temporal upper quadrant",
        "the upper temporal quadrant",
        "the superior temporal quadrant",
    ),
    "inferotemporal quadrant": (
        "the inferotemporal quadrant",
        "the temporal lower quadrant",
        "the lower temporal quadrant",
        "the inferior temporal quadrant",
    ),
    "superonasal quadrant": (
        "the superonasal quadrant",
        "the nasal upper quadrant",
        "the upper nasal quadrant",
        "the superior nasal quadrant",
    ),
    "inferonasal quadrant": (
        "the inferonasal quadrant",
        "the nasal lower quadrant",
        "the lower nasal quadrant",
        "the inferior nasal quadrant",
    ),
    "superotemporal macula": ("superotemporal to the fovea", "temporal and above the fovea"),
    "inferotemporal macula": ("inferotemporal to the fovea", "temporal and below the fovea"),
    "superonasal macula": ("superonasal to the fovea", "nasal and above the fovea"),
    "inferonasal macula": ("inferonasal to the fovea", "nasal and below the fovea"),
    "all quadrants": ("all quadrants", "all four quadrants", "every quadrant"),
    "posterior pole": ("the posterior pole", "the posterior pole of the retina"),
    "mid-periphery": ("the mid-periphery", "the mid-peripheral retina", "the middle periphery"),
    "macula": ("the macula", "the macular area", "the macular region"),
    "fovea": ("the fovea", "the macular center"),
    "optic disc": ("the optic disc", "the disc"),
}

DEGREES: dict[str, tuple[str, ...]] = {
    "mild": ("mild", "slight"),
    "moderate": ("moderate", "obvious"),
    "severe": ("severe", "marked", "profuse"),
}

AMOUNTS: tuple[tuple[int, tuple[str, ...]], ...] = (  # up to this count: these words
    (10, ("a few", "several", "a small number of")),
    (30, ("scattered", "multiple")),
    (10**6, ("numerous", "a large number of", "dense")),
)

CLOSURE_SIZES: dict[str, tuple[str, ...]] = {
    "mild": ("small patchy areas of", "small patches of"),
    "moderate": ("patchy areas of", "medium-sized areas of"),
    "severe": ("large areas of", "extensive areas of"),
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    # Timing and trunks
    "timing": (
        "Arterial filling time is {arterial} and venous return is {venous}",
        "The filling time of retinal arteries is {arterial}; "
        "the return time of retinal veins is {venous}",
    ),
    "timing_normal": (
        "Arterial filling and venous return times are {NORMAL}",
        "The retinal arteries and veins fill on time",
        "Filling time of retinal arteries and return time of retinal veins are {NORMAL}",
    ),
    "vessels_normal": (
        "Course and caliber of the retinal vessels are {NORMAL}",
        "The retinal vessels show no abnormality",
    ),
    "vein_occlusion_branch": (
        "Slow venous return of the {branch} branch, whose vein is dilated and tortuous",
        "Venous reflux of the {branch} branch vein is slow, with tortuous dilatation of the vein",
        "The {branch} branch vein fills late and is tortuous and dilated",
    ),
    "vein_occlusion_central": (
        "Retinal veins are tortuous and dilated in {region}",
        "Tortuous dilatation of the retinal veins {IS} in {region}",
    ),
    "wall_stain": (
        "The wall of the affected vein stains {LATE}",
        "Staining of the venous wall {IS} {LATE}",
    ),
    "collaterals": (
        "Venous anastomosis {IS} on the temporal side of the {MACULA}",
        "Collateral vessels link the upper and lower veins temporal to the {MACULA}",
        "Arteriovenous shunting {IS} temporal to the {MACULA}",
    ),
    "venous_beading": ("Venous beading {IS} in {region}", "The veins are beaded in {region}"),
    "arterial_narrowing": (
        "The retinal arteries are narrowed",
        "Retinal artery diameter is narrowed",
    ),
    # Capillaries
    "microaneurysms": (
        "{Amount} pinpoint {HYPER_ADJ} microaneurysms {ARE} in {region}",
        "{Amount} microaneurysms with dot-like {HYPER} {ARE} in {region}",
        "In {region} {amount} microaneurysms {ARE}",
    ),
    "capillary_leakage": (
        "Capillaries in {region} are dilated with {degree} {LEAK}",
        "Capillary dilatation with {degree} {LEAK} {IS} in {region}",
        "Increased vascular permeability and {degree} {LEAK} in {region}",
    ),
    "nonperfusion": (
        "{Size} {NONPERFUSION} {ARE} in {region}",
        "{Size} {NONPERFUSION} are formed in {region}",
        "In {region} there are {size} {NONPERFUSION}",
    ),
    "irma": (
        "Intraretinal microvascular abnormalities {ARE} in {region}",
        "Tortuous dilated capillaries border the closed areas in {region}",
    ),
    "nve": (
        "A tuft of new vessels in {region} shows marked {LEAK}",
        "Neovascularization with early marked {LEAK} {IS} in {region}",
        "{NEW_VESSELS} in {region} leak strongly from the arteriovenous phase",
    ),
    "haemorrhage_blot": (
        "{Amount} hemorrhagic spots with {BLOCK} {ARE} in {region}",
        "{Amount} spots of {BLOCK} from hemorrhage {ARE} in {region}",
    ),
    "haemorrhage_flame": (
        "{Amount} flame-shaped hemorrhages with {BLOCK} {ARE} in {region}",
        "Flame-shaped {BLOCK} from {amount} hemorrhages {IS} in {region}",
    ),
    "preretinal_haemorrhage": (
        "A preretinal hemorrhage in {region} hides the vessels below",
        "Dense boat-shaped {BLOCK} from preretinal hemorrhage {IS} in {region}",
    ),
    "hard_exudates": (
        "Faint masking by hard exudates {IS} around the {MACULA}",
        "Hard exudates in the {MACULA} cause mild {BLOCK}",
    ),
    "cotton_wool": (
        "{Amount} cotton-wool spots with hypofluorescence {ARE} in {region}",
        "Focal hypofluorescence of {amount} cotton-wool spots {IS} in {region}",
    ),
    "laser_scars": (
        "{Amount} laser spots {ARE} in {region}",
        "{Amount} laser scars with staining edges {ARE} in {region}",
    ),
    # Macula
    "oedema_cystoid": (
        "{Degree} petal-like accumulation of fluorescence around {region} {LATE}",
        "{Degree} petaloid pooling of dye {IS} at {region} {LATE}",
        "Cystoid macular edema of {degree} extent with petal-like pooling {LATE}",
    ),
    "oedema_diffuse": (
        "{Degree} diffuse accumulation of dye {IS} in {region} {LATE}",
        "{Degree} diffuse {LEAK} in {region} {LATE}",
        "Dye gathers diffusely in {region} {LATE}, in keeping with {degree} macular edema",
    ),
    "csc_inkblot": (
        "A {HYPER_ADJ} leaking point {distance} {region} spreads like an ink blot",
        "One leakage point {IS} {distance} {region}, enlarging like an ink drop {LATE}",
    ),
    "csc_smokestack": (
        "A leakage point {distance} {region} rises in a smoke-stack form and spreads at the top",
        "Smokestack leakage {IS} {distance} {region}, climbing upwards like a mushroom {LATE}",
    ),
    "csc_chronic": (
        "Mottled transmitted fluorescence in {region} with {amount} weak leakage points {LATE}",
        "{Amount} granular {HYPER_ADJ} points in {region} ooze slowly {LATE} "
        "among pigmentary changes",
    ),
    "cnv_classic": (
        "A lacy choroidal neovascular membrane of {size} {IS} in {region} {EARLY}, "
        "with marked {LEAK} {LATE}",
        "Well-defined early {HYPER} of {size} in {region} leaks beyond its border {LATE}",
    ),
    "cnv_occult": (
        "Stippled {HYPER} of unclear border, {size}, appears in {region} "
        "in the mid phase and leaks {LATE}",
        "Ill-defined granular {HYPER} of {size} {IS} in {region}, with {LEAK} {LATE}",
    ),
    "ped": (
        "A round well-defined pooling of {size} {IS} in {region}, "
        "consistent with pigment epithelial detachment",
        "Focal detachment of the retinal pigment epithelium of {size} in {region} "
        "fills evenly and keeps its size",
    ),
    "polyps": (
        "{Amount} polyp-like dilatations {ARE} in {region} with {LEAK} {LATE}",
        "{Amount} vascular tumor-like expansions {ARE} in {region} with increased permeability",
    ),
    "drusen": (
        "{Amount} small drusen {ARE} in {region}, staining without {LEAK}",
        "{Amount} drusen-like {HYPER_ADJ} spots {ARE} in {region} without leakage",
    ),
    "atrophy": (
        "A sharply bordered window defect of {size} {IS} in {region}",
        "Transmitted fluorescence of an atrophic area of {size} in {region}, constant in size",
    ),
    "macular_hole": (
        "A weak round fluorescent spot at the macular center stays unchanged",
        "Transmitted fluorescence of the foveal center stays constant in size",
    ),
    # Disc
    "disc_stain": (
        "{Degree} staining of the {DISC} {LATE}",
        "The {DISC} shows {degree} staining {LATE} with a clear border",
    ),
    "disc_leak": (
        "{Degree} leakage of the {DISC} with unclear borders {LATE}",
        "The {DISC} leaks with {degree} {HYPER} and its border is blurred",
    ),
    "nvd": (
        "New vessels on the {DISC} with early marked {LEAK}",
        "Neovascularization of the {DISC} {IS} with profuse {LEAK}",
    ),
    # Negatives
    "no_neovascularisation": (
        "{NO} neovascularization is found",
        "No neovascularization was seen in the visible field",
    ),
    "no_nonperfusion": ("{NO} non-perfusion area is seen", "No capillary non-perfusion is found"),
    "no_macular_lesion": (
        "{NO} dye accumulation in the {MACULA}",
        "The {MACULA} shows no late dye accumulation",
    ),
    "no_leakage": (
        "{NO} dye leakage is seen in the retina",
        "No abnormal dye leakage was observed",
    ),
    "other_quadrants": (
        "{NO} abnormality in the other quadrants",
        "The remaining quadrants show no obvious abnormality",
    ),
    "periphery_normal": (
        "{NO} abnormality of the mid-periphery",
        "Background fluorescence of the mid-periphery is roughly normal",
        "The choroidal vessels of the periphery show no obvious abnormality",
    ),
    "disc_normal": (
        "{NO} abnormal fluorescence of the {DISC}",
        "The {DISC} appears normal",
        "No obvious abnormality in the fluorescence of the {DISC}",
    ),
    # Conclusions
    "agrees": ("Findings agree with {disease}", "Consistent with {disease}"),
    "suspected": ("Suspected {disease}", "{Disease} is suspected"),
}

DISEASE_KEYWORDS: dict[str, tuple[tuple[str, ...], ...]] = {  # one of each inner tuple is used
    "npdr_mild": (("mild nonproliferative diabetic retinopathy",),),
    "npdr_moderate": (("moderate nonproliferative diabetic retinopathy",),),
    "npdr_severe": (("severe nonproliferative diabetic retinopathy",),),
    "pdr": (("proliferative diabetic retinopathy",),),
    "brvo": (("branch retinal vein occlusion",), ("retinal vein occlusion",)),
    "crvo": (("central retinal vein occlusion",), ("retinal vein occlusion",)),
    "csc": (("central serous chorioretinopathy", "central serous choroidopathy"),),
    "csc_smokestack": (("central serous chorioretinopathy", "central serous choroidopathy"),),
    "csc_chronic": (("chronic central serous chorioretinopathy",), ("pigmentary changes",)),
    "namd_classic": (
        ("classic choroidal neovascularization",),
        ("age-related macular degeneration", "neovascular age-related macular degeneration"),
    ),
    "namd_occult": (
        ("occult choroidal neovascularization",),
        ("age-related macular degeneration", "neovascular age-related macular degeneration"),
    ),
    "pcv": (("polypoidal choroidal vasculopathy", "polypoid vascular abnormality"),),
    "ped": (("retinal pigment epithelial detachment",),),
    "drusen": (("drusen",),),
    "dry_amd": (("dry age-related macular degeneration",),),
    "geographic_atrophy": (("geographic atrophy",), ("age-related macular degeneration",)),
    "macular_hole": (("macular hole",),),
    "cmo": (("cystoid macular edema",),),
    "dme": (("diabetic macular edema", "diffuse macular edema"),),
    "disc_leak": (("optic disc edema", "papillitis"),),
    "laser_scars": (("laser treatment",),),
}

FINDING_KEYWORDS: dict[str, tuple[str, ...]] = {  # one of these
    "vein_occlusion": ("tortuous", "tortuous veins"),
    "collaterals": ("arteriovenous shunting", "collateral vessels"),
    "venous_beading": ("venous beading",),
    "microaneurysms": ("microaneurysm",),
    "capillary_leakage": ("leakage",),
    "nonperfusion": ("non-perfusion areas",),
    "irma": ("intraretinal microvascular abnormality",),
    "nve": ("neovascularization",),
    "nvd": ("neovascularization of the disc",),
    "haemorrhage_blot": ("hemorrhage",),
    "haemorrhage_flame": ("hemorrhage",),
    "preretinal_haemorrhage": ("preretinal hemorrhage",),
    "hard_exudates": ("exudates",),
    "cotton_wool": ("cotton-wool spots",),
    "laser_scars": ("laser scar", "laser spots"),
    "oedema_cystoid": ("cystoid macular edema", "macular edema"),
    "oedema_diffuse": ("macular edema",),
    "csc_inkblot": ("leakage point",),
    "csc_smokestack": ("smokestack leakage",),
    "ped": ("retinal pigment epithelial detachment", "detachment"),
    "polyps": ("polypoid vascular abnormality",),
    "drusen": ("drusen",),
    "atrophy": ("atrophy", "window defect"),
    "disc_stain": ("disc staining",),
    "disc_leak": ("disc leakage",),
}

GENERIC_KEYWORDS = ("changes", "arteriole", "fundus changes")

BRITISH: dict[str, str] = {
    "hemorrhag": "haemorrhag",
    "Hemorrhag": "Haemorrhag",
    "edema": "oedema",
    "neovascularization": "neovascularisation",
    "Neovascularization": "Neovascularisation",
    "tumor-like": "tumour-like",
    "caliber": "calibre",
    "center": "centre",
}
