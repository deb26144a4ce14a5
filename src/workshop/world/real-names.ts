/** Well-known names of people, places, firms and words that the syllables of this world could meet by chance. */
const real = new Set(
  [
    "adam alan albert alice amanda andrea andrew angela anna anton arthur barbara ben bella boris brian bruno carl",
    "carla carmen carol clara daniel david dennis diana doris edgar edith elena elias ella emil emma erik eva felix",
    "fiona frank frida gabi gary georg gita glen gloria greta gustav hanna harald harold heidi helen helga henri hilda",
    "ida igor ines ingrid iris ivan jana janet jelena jens joel johan jonas julia karel karen karin karl kevin klara",
    "klaus kristen lara laura lena leon linda lisa lola lorena lotta louis lucas lydia marco maria marie mario mark",
    "marta martin mary max mira mona nadia nelson nina nora olga oscar otto pablo paolo patel paul pedro petra philip",
    "rita robert rosa ruth sandra sara selma sergei silvia simon sofia stella sven tania tara tina tom vera viktor wanda",
    "benta berta delta manta santa fanta gilda golda zelda velda tilda nanda wilma velma selma thelma norma irma",
    "anders barnard becket bennett berg bernard beckett blunt bogart bolt brandt brecht burnett byrne dirac euler",
    "garrett gaus gilmour grimm haydn hazard hubbard kant kepler leonard lombard marx mendel milton mozart mustard",
    "nernst newton pickett pollack pollard renard richard stalin stark tolkien tyrell verne willard wilson wizard",
    "aachen accra algiers amman athens baku bamako basel beirut berlin bern bogota bonn boston brunei bursa cairo",
    "dakar delhi denver dover dublin durham essen faro genoa ghent graz hague hanoi havana izmir jakarta kabul kiev kyoto",
    "lagos leeds lima lisbon lodz london lyon madrid malmo manila mecca milan minsk moscow mumbai munich nairobi",
    "naples nice odessa oslo oxford paris perth porto prague quito rabat riga rome samara seoul sofia split sydney",
    "taipei tallinn tampa tehran tokyo toledo tripoli tunis turin utrecht vienna vilnius warsaw york zagreb zurich",
    "albania armenia austria belarus belgium bolivia bosnia brazil bulgaria cambodia chile china colombia croatia",
    "cyprus denmark egypt estonia ethiopia finland france gambia georgia germany ghana greece guinea hungary india",
    "iran iraq ireland israel italy japan jordan kenya korea laos latvia lebanon libya macedonia malta mexico monaco",
    "mongolia morocco nepal niger nigeria norway oman panama peru poland portugal qatar romania russia rwanda serbia",
    "slovakia slovenia somalia spain sudan sweden syria turkey uganda ukraine uruguay vietnam yemen zambia gondor",
    "amazon congo danube elbe ganges indus loire mekong neva niger nile oder orinoco rhine rhone seine severn tagus",
    "thames tiber tigris vistula volga volta weser yukon zambezi arabic catalan czech danish dutch english finnish",
    "french gaelic german gothic greek hindi italian latin malay nordic norse persian polish punic slavic swahili",
    "tamil turkish urdu basic topic logic magic music public static drastic plastic fabric metric garlic mystic comic",
    "durex kleenex lux pyrex rolex semtex tetra timex vortex xerox wix netflix braun bosch canon denon gorenje nikon",
    "baba bimbo dona lido trunken yanis leta nedra zulma kuda seva rapa suzel lopo larten barlow razi sindi ballard bastard buzzard custard drunkard dullard haggard standard steward leopard placard bollard blackard lizard",
    "border gallop tallow bellow below fallow fellow follow hollow mellow pillow shallow sorrow borrow harrow narrow",
    "barrow burrow furrow marrow shadow window widow minnow elbow rainbow perfume volume costume fortune neptune",
    "nepal bernadette bullet market basket velvet gasket trumpet blanket ticket musket bucket",
    "blunder plunder slender tender wonder splendour glamour harbour labour vapour flavour favour parlour saviour",
  ]
    .join(" ")
    .split(" "),
);

/** Letters that make a word unfit to be shown to people, in any place of it. */
const unfit =
  /fuck|fuk|shit|cunt|nig|fag|kik|dik|cum|tit|slut|rap[ei]|nazi|heil|gook|wog|porn|piss|turd|homo|spas|kill|trump|hitl|stalin|putin/;

/** True for a lower-case word that is the name of something outside this world, or better not shown. */
export function isReal(word: string): boolean {
  return real.has(word) || unfit.test(word);
}
