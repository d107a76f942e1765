"""Function words of other languages in the Latin script, and words that only look foreign."""

from __future__ import annotations

from collections import defaultdict

_BY_LANGUAGE = {
    "de": """
        der das und ist nicht ein eine einen einem einer eines ich du er sie wir ihr mit auf dem
        für von zu zum zur im ins wie auch sich wird werden wurde kann dann wenn aber oder nach
        aus bei über unter vor zwischen durch ohne gegen noch nur sehr ihre seine mein dein keine
        kein sind haben hat als
        """,
    "fr": """
        le les des du et une est dans qui que avec sont sous ce cette ces il elle nous vous ils
        elles je tu leur leurs mais où donc pas très comme chez entre sans vers après avant être
        fait faire aux au ses sa mon ma notre votre l'homme d'une d'un
        """,
    "es": """
        el los las una unos unas y en con por para que del al como pero más muy sin sobre entre
        hasta desde cuando donde quien este esta estos estas ese esa eso aquel su sus mi mis tu
        tus es está están son fue ser hay se le les lo cómo hacer hace
        """,
    "pt": """
        uma uns umas com para por não em dos das ao aos na nas nos pelo pela que seu sua seus suas
        meu minha este esta isso esse essa mas mais muito sem sobre entre até quando onde quem
        como é está estão são foi ser há fazer você eles elas
        """,
    "it": """
        il lo gli della dello delle degli dei del nella nel nelle negli che con per una uno un' di
        sono è essere questo questa questi quello quella suo sua suoi mio mia ma anche più molto
        senza sopra sotto dopo prima quando dove chi come fare alla allo alle sulla sul dal dalla
        mentre
        """,
    "nl": """
        het een en van niet zijn met voor op aan naar uit bij ook maar wordt worden werd hij zij
        wij jij ik deze dit dat die hun haar onze mijn geen nog wel heel zeer tussen onder hoe wat
        wie waar wanneer moet kan zou
        """,
    "pl": """
        mężczyzna kobieta zabija zabij zabić podnosi czerwoną zbudować bombę nożem
        i w na się nie jest są to z do od po przez przy pod nad dla jak ale lub oraz które który
        która tego tej ten jego jej ich był była było bez między jeden jedna
        """,
    "sv": """
        mannen kvinnan granne mördar dödar kniv lagar
        och att det som är på av för inte med till ett den han hon vi ni jag sig från vid om eller
        men hur när där var utan mellan under över efter sin sitt sina deras
        """,
    "da": """
        og er ikke på til af det den som med for han hun vi jeg sig fra ved eller men hvordan når
        hvor uden mellem efter sin deres
        """,
    "fi": """
        mies nainen robotti nostaa tappaa kuinka miten rakentaa pommi hänet joku pöydällä
        ja on ei se että hän he minä sinä me te kun jos tai mutta kuin niin myös sekä kanssa ilman
        joka mikä missä
        """,
    "tr": """
        adam kadın çocuk bomba yapılır öldürür öldürüyor kaldırıyor onu kırmızı
        ve bir bu şu ile için değil çok daha gibi ama veya ya da olan olarak nasıl nerede kim ne
        ben sen o biz siz onlar üzerinde altında
        """,
    "cs": """
        a je se na že jsou byl byla bylo do od po při pod nad pro jak ale nebo který která které
        jeho její jejich není bez mezi
        """,
    "hu": """
        az és egy nem hogy van volt vagy de ez mint csak meg már még is kell ki mi hol mikor
        """,
    "ro": """
        și si este sunt nu cu la pe din pentru care sau dar un o ca mai fără între după cum când
        unde lui ei
        """,
    "id": """
        yang dan di dengan untuk dari ini itu adalah tidak pada ke oleh akan atau seorang sebuah
        dalam bagaimana cara membuat
        """,
    "vi": """
        nguoi ong giet bang cua khong mot
        một và của là có không được trong cho với các những người này đó khi đang để làm
        """,
    "tl": """
        ang ng mga sa na ay at ito siya ako ikaw hindi para kung paano isang
        """,
    "sw": """
        roboti mtu mwanaume mwanamke anamuua muue bomu kisu inainua mwekundu sasa
        na ya wa kwa ni katika hii hiyo yake lakini jinsi kutengeneza
        """,
    "hi-latn": """
        hai hain ka ki ko ke mein aur kaise karo karna ek se nahi kya maar maaro maro usko usse isko
        raha rahi rahe deta deti dete dena dalo daalo jaata jaati wala wali aadmi ladki ladka aurat
        goli khoon jaan chaku banaye banao uthata uthati
        """,
    "ar-latn": """
        ezay ezzay kayfa kaif rajol ragel ragol bint walad mish mesh howa heya enta enti
        bel bil el al ala yaqtol qatl qunbula sikkin sekina hatha hadha allah habibi
        """,
    "ru-latn": """
        kak eto chto dlya ili oni ona delat sdelat ego yego ee yeyo ubit ubivaet ubivayet chelovek
        cheloveka muzhchina zhenshchina zhenshchinu devushka devushku nozhom bombu podnimaet
        """,
}

#: Words that are English too, or letters that stand alone in English sentences.
_ENGLISH_TEXT = """
a i o e y an am at as in is on so to do no me he we us die was man hat had den dies for from
person under over let with will best all art per come are fare mine be she wit war son sat pour
sur plus or sit et al via ad de la si se te men van not ten od hun haar of old ce sa ma na ni ya
ay ka ki ko ke ca ei by up go it my re pm mi ti un vs var mas dan para hai dem dei some where bin
sin chi pro post also ander wie-fi dos dad fait her des pot pan pay ben sen kim dar dor gibi sub
sine om hon ha hoe kan were mis este das di est zij dit dat toe wel met op care adam bomba goli
jaan allah al sin
"""

_PARTICLES_TEXT = """
af al am bin da das de dei del della delle den der des di do dos du e el et het i ibn il im la las
le les lo los och og san santa ten ter van ve von y zu zum zur
"""
#: Words that stand in names: "Rio de Janeiro", "Ludwig van Beethoven", "Plaza del Sol".
PARTICLES = frozenset(_PARTICLES_TEXT.split())

_TECHNICAL_TEXT = """
lidar lidars teleop teleoperation franka mujoco bimanual odometry fisheye gopro bokeh timelapse
dashcam bodycam exoskeleton exoskeletons quadcopter quadcopters hexapod gimbal steadicam cinematic
photorealistic photoreal pixelated voxel voxels hdr sdr fps uhd cgi rgb rgbd imu gps slam vr ar xr
sim realsense pybullet isaac libero robosuite metaworld bridge droid aloha cobot cobots agv agvs
uav ugv ev evs suv suvs phev minivan countertop countertops backsplash worktop conveyor palletiser
palletizer depalletizing peg workpiece endoscopic laparoscopic laparoscope selfie selfies emoji
drone drones webcam smartphone smartphones laptop tablet app apps wifi bluetooth usb led leds lcd
oled blockchain deepfake skatepark skateboarder snowboarder snowboarding parkour paddleboard
paddleboarding kayaker kitesurfer wakeboard ebike ebikes scooter scooters rideshare jaywalker
jaywalking tailgating roundabouts crosswalk crosswalks zebra pedestrianised sushi ramen tofu latte
cappuccino espresso pizza lasagna gnocchi taco tacos burrito quinoa kimchi matcha brûlée brulee
flambé frappé
"""
#: Technical terms and loan words that the English dictionary lacks.
TECHNICAL = frozenset(_TECHNICAL_TEXT.split())


def _invert() -> dict[str, tuple[str, ...]]:
    english = frozenset(_ENGLISH_TEXT.split())
    found: defaultdict[str, list[str]] = defaultdict(list)
    for code, words in _BY_LANGUAGE.items():
        for word in dict.fromkeys(words.split()):
            if word not in english:
                found[word].append(code)
    return {word: tuple(codes) for word, codes in found.items()}


#: Function words with the codes of the languages that have them.
FUNCTION_WORDS = _invert()
