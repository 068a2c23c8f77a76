# ruff: noqa: E501, SIM905 - tables of questions and words
"""Writes data/facts.json: questions with accepted answers, and names, for lesson 08.

    python data/make_facts.py            a minute; needs SmolLM2's tokenizer

Questions and people were written for this course, from general knowledge. Invented names are put together here from
ordinary names and drawn letters (seed 0), each with as many tokens in either half as the famous name it stands beside;
shuffled names join the first half of one famous name to the second half of another, so both groups hold the same halves.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

OUT = Path(__file__).with_name("facts.json")

# ---------------------------------------------------------------------------------------------------------------------
# Questions: "subject:answer/another accepted answer, ...". The first of a relation's wordings is the
# lesson's own, with two examples, which are no questions.

RELATIONS = {
    "capitals": (
        (
            "The capital of Luxembourg is Luxembourg City. The capital of Laos is Vientiane. The capital of {} is",
            "The capital of {} is",
            "The capital city of {} is called",
        ),
        "Afghanistan:Kabul, Albania:Tirana, Algeria:Algiers, Argentina:Buenos Aires, Armenia:Yerevan, Australia:Canberra, "
        "Austria:Vienna, Azerbaijan:Baku, Bangladesh:Dhaka, Belarus:Minsk, Belgium:Brussels, Bolivia:Sucre/La Paz, "
        "Brazil:Brasília/Brasilia, Bulgaria:Sofia, Cambodia:Phnom Penh, Cameroon:Yaoundé/Yaounde, Canada:Ottawa, Chile:Santiago, "
        "China:Beijing, Colombia:Bogotá/Bogota, Croatia:Zagreb, Cuba:Havana, Cyprus:Nicosia, Denmark:Copenhagen, Ecuador:Quito, "
        "Egypt:Cairo, Estonia:Tallinn, Ethiopia:Addis Ababa, Finland:Helsinki, France:Paris, Georgia:Tbilisi, Germany:Berlin, "
        "Ghana:Accra, Greece:Athens, Hungary:Budapest, Iceland:Reykjavik/Reykjavík, India:New Delhi/Delhi, Indonesia:Jakarta, "
        "Iran:Tehran, Iraq:Baghdad, Ireland:Dublin, Italy:Rome, Jamaica:Kingston, Japan:Tokyo, Jordan:Amman, Kenya:Nairobi, "
        "Latvia:Riga, Lebanon:Beirut, Libya:Tripoli, Lithuania:Vilnius, Malaysia:Kuala Lumpur, Mali:Bamako, "
        "Mexico:Mexico City, Mongolia:Ulaanbaatar/Ulan Bator, Morocco:Rabat, Nepal:Kathmandu, "
        "the Netherlands:Amsterdam, New Zealand:Wellington, Nigeria:Abuja, North Korea:Pyongyang, Norway:Oslo, Pakistan:Islamabad, "
        "Peru:Lima, the Philippines:Manila, Poland:Warsaw, Portugal:Lisbon, Romania:Bucharest, Russia:Moscow, "
        "Saudi Arabia:Riyadh, Senegal:Dakar, Serbia:Belgrade, Slovakia:Bratislava, Slovenia:Ljubljana, Somalia:Mogadishu, "
        "South Korea:Seoul, Spain:Madrid, Sudan:Khartoum, Sweden:Stockholm, Switzerland:Bern/Berne, Syria:Damascus, "
        "Thailand:Bangkok, Tunisia:Tunis, Turkey:Ankara, Uganda:Kampala, Ukraine:Kyiv/Kiev, Uruguay:Montevideo, "
        "Venezuela:Caracas, Vietnam:Hanoi, Zambia:Lusaka, Zimbabwe:Harare",
    ),
    "states": (
        (
            "The capital of the state of Ohio is Columbus. The capital of the state of Utah is Salt Lake City. The capital of the state of {} is",
            "The capital of the US state of {} is",
            "The state capital of {} is called",
        ),
        "Alabama:Montgomery, Alaska:Juneau, Arizona:Phoenix, Arkansas:Little Rock, California:Sacramento, Colorado:Denver, "
        "Connecticut:Hartford, Delaware:Dover, Florida:Tallahassee, Georgia:Atlanta, Hawaii:Honolulu, Idaho:Boise, "
        "Illinois:Springfield, Indiana:Indianapolis, Iowa:Des Moines, Kansas:Topeka, Kentucky:Frankfort, Louisiana:Baton Rouge, "
        "Maine:Augusta, Maryland:Annapolis, Massachusetts:Boston, Michigan:Lansing, Minnesota:Saint Paul/St. Paul, "
        "Mississippi:Jackson, Missouri:Jefferson City, Montana:Helena, Nebraska:Lincoln, Nevada:Carson City, "
        "New Hampshire:Concord, New Jersey:Trenton, New Mexico:Santa Fe, New York:Albany, North Carolina:Raleigh, "
        "North Dakota:Bismarck, Oklahoma:Oklahoma City, Oregon:Salem, Pennsylvania:Harrisburg, "
        "Rhode Island:Providence, South Carolina:Columbia, South Dakota:Pierre, Tennessee:Nashville, Texas:Austin, "
        "Vermont:Montpelier, Virginia:Richmond, Washington:Olympia, West Virginia:Charleston, "
        "Wisconsin:Madison, Wyoming:Cheyenne",
    ),
    "elements": (
        (
            "The chemical symbol of francium is Fr. The chemical symbol of osmium is Os. The chemical symbol of {} is",
            "The chemical symbol for {} is written as",
            "The chemical symbol of {} is",
        ),
        "hydrogen:H, helium:He, lithium:Li, beryllium:Be, boron:B, carbon:C, nitrogen:N, oxygen:O, fluorine:F, neon:Ne, "
        "sodium:Na, magnesium:Mg, aluminum:Al, silicon:Si, phosphorus:P, sulfur:S, chlorine:Cl, argon:Ar, potassium:K, "
        "calcium:Ca, scandium:Sc, titanium:Ti, vanadium:V, chromium:Cr, manganese:Mn, iron:Fe, cobalt:Co, nickel:Ni, "
        "copper:Cu, zinc:Zn, gallium:Ga, germanium:Ge, arsenic:As, selenium:Se, bromine:Br, krypton:Kr, rubidium:Rb, "
        "strontium:Sr, yttrium:Y, zirconium:Zr, niobium:Nb, molybdenum:Mo, palladium:Pd, silver:Ag, cadmium:Cd, indium:In, "
        "tin:Sn, antimony:Sb, tellurium:Te, iodine:I, xenon:Xe, cesium:Cs, barium:Ba, tungsten:W, platinum:Pt, gold:Au, "
        "mercury:Hg, lead:Pb, bismuth:Bi, radon:Rn, radium:Ra, thorium:Th, uranium:U, plutonium:Pu",
    ),
    "books": (
        (
            "Emma was written by Jane Austen. Kim was written by Rudyard Kipling. {} was written by",
            "The author of Emma is Jane Austen. The author of Kim is Rudyard Kipling. The author of {} is",
            "Q: Who wrote {}?\nA:",
        ),
        "Hamlet:William Shakespeare/Shakespeare, Pride and Prejudice:Jane Austen, Moby-Dick:Herman Melville, Oliver Twist:Charles Dickens/Dickens, "
        "Great Expectations:Charles Dickens/Dickens, War and Peace:Leo Tolstoy/Tolstoy, Crime and Punishment:Fyodor Dostoevsky/Dostoevsky/Fyodor Dostoyevsky, "
        "The Great Gatsby:F. Scott Fitzgerald, Frankenstein:Mary Shelley/Mary Wollstonecraft Shelley, Dracula:Bram Stoker, "
        "The Odyssey:Homer, The Iliad:Homer/the Greek poet Homer, The Aeneid:Virgil, The Divine Comedy:Dante, The Republic:Plato, "
        "Don Quixote:Miguel de Cervantes/Cervantes, Les Misérables:Victor Hugo, Madame Bovary:Gustave Flaubert/Flaubert, "
        "Jane Eyre:Charlotte Brontë/Charlotte Bronte, Wuthering Heights:Emily Brontë/Emily Bronte, Middlemarch:George Eliot, "
        "Gulliver's Travels:Jonathan Swift, Robinson Crusoe:Daniel Defoe, Paradise Lost:John Milton/Milton, "
        "The Canterbury Tales:Geoffrey Chaucer/Chaucer, Treasure Island:Robert Louis Stevenson, "
        "The Picture of Dorian Gray:Oscar Wilde, The Time Machine:H. G. Wells/H.G. Wells, The War of the Worlds:H. G. Wells/H.G. Wells, "
        "The Jungle Book:Rudyard Kipling, Alice's Adventures in Wonderland:Lewis Carroll, Peter Pan:J. M. Barrie/J.M. Barrie, "
        "Nineteen Eighty-Four:George Orwell, Animal Farm:George Orwell, Brave New World:Aldous Huxley, "
        "The Lord of the Rings:J. R. R. Tolkien/J.R.R. Tolkien, The Chronicles of Narnia:C. S. Lewis/C.S. Lewis, "
        "To Kill a Mockingbird:Harper Lee, The Catcher in the Rye:J. D. Salinger/J.D. Salinger, The Grapes of Wrath:John Steinbeck, "
        "Of Mice and Men:John Steinbeck, The Old Man and the Sea:Ernest Hemingway/Hemingway, A Farewell to Arms:Ernest Hemingway/Hemingway, "
        "Lord of the Flies:William Golding, Ulysses:James Joyce, Mrs Dalloway:Virginia Woolf, The Stranger:Albert Camus, "
        "The Metamorphosis:Franz Kafka, Faust:Johann Wolfgang von Goethe/Goethe, The Magic Mountain:Thomas Mann, "
        "The Scarlet Letter:Nathaniel Hawthorne, The Adventures of Tom Sawyer:Mark Twain, Little Women:Louisa May Alcott, "
        "Uncle Tom's Cabin:Harriet Beecher Stowe, Walden:Henry David Thoreau/Thoreau, The Raven:Edgar Allan Poe, "
        "Leaves of Grass:Walt Whitman, The Waste Land:T. S. Eliot/T.S. Eliot, On the Origin of Species:Charles Darwin/Darwin, "
        "The Wealth of Nations:Adam Smith, The Prince:Niccolò Machiavelli/Machiavelli/Niccolo Machiavelli, Leviathan:Thomas Hobbes/Hobbes, "
        "Das Kapital:Karl Marx/Marx, The Interpretation of Dreams:Sigmund Freud/Freud",
    ),
    "currencies": (
        (
            "The currency of Oman is the rial. The currency of Laos is the kip. The currency of {} is the",
            "The money used in Oman is called the rial. The money used in Laos is called the kip. The money used in {} is called the",
            "The currency of {} is the",
        ),
        "Japan:yen/Japanese yen, China:yuan/renminbi/Chinese yuan, India:rupee/Indian rupee/Indian Rupee, Russia:ruble/Russian ruble/rouble, "
        "Mexico:peso/Mexican peso, Brazil:real/Brazilian real/Real, South Africa:rand/South African rand/Rand, Thailand:baht/Thai baht/Baht, "
        "Turkey:lira/Turkish lira/Turkish Lira, Poland:zloty/Polish zloty/złoty, Hungary:forint/Hungarian forint, Sweden:krona/Swedish krona/Swedish Krona, "
        "Norway:krone/Norwegian krone/Norwegian Krone, Denmark:krone/Danish krone/Danish Krone, Switzerland:franc/Swiss franc/Swiss Franc, "
        "the United Kingdom:pound/British pound/British Pound, the United States:dollar/US dollar/U.S. dollar/United States dollar, "
        "Canada:dollar/Canadian dollar/Canadian Dollar, Australia:dollar/Australian dollar/Australian Dollar, Germany:euro/Euro/German euro, France:euro/Euro/French euro, "
        "Italy:euro/Euro/Italian euro, Spain:euro/Euro/Spanish euro, Israel:shekel/Israeli shekel/Israeli Shekel/new shekel, Egypt:pound/Egyptian pound/Egyptian Pound, "
        "Saudi Arabia:riyal/Saudi riyal/Saudi Riyal, Iran:rial/Iranian rial/Iranian Rial, Iraq:dinar/Iraqi dinar/Iraqi Dinar, Kuwait:dinar/Kuwaiti dinar/Kuwaiti Dinar, "
        "Pakistan:rupee/Pakistani rupee/Pakistani Rupee, Bangladesh:taka/Bangladeshi taka/Taka, Indonesia:rupiah/Indonesian rupiah/Indonesian Rupiah, "
        "Malaysia:ringgit/Malaysian ringgit/Malaysian Ringgit, the Philippines:peso/Philippine peso/Philippine Peso, Vietnam:dong/Vietnamese dong/Vietnamese Dong, "
        "South Korea:won/South Korean won/Korean won/South Korean Won, Argentina:peso/Argentine peso/Argentine Peso, Chile:peso/Chilean peso/Chilean Peso, "
        "Peru:sol/Peruvian sol/nuevo sol, Nigeria:naira/Nigerian naira/Nigerian Naira, Kenya:shilling/Kenyan shilling/Kenyan Shilling, Ghana:cedi/Ghanaian cedi/Ghanaian Cedi, "
        "Ethiopia:birr/Ethiopian birr/Ethiopian Birr, Morocco:dirham/Moroccan dirham/Moroccan Dirham, Ukraine:hryvnia/Ukrainian hryvnia, "
        "Bulgaria:lev/Bulgarian lev/Bulgarian Lev, Romania:leu/Romanian leu/Romanian Leu",
    ),
    "languages": (
        (
            "The main language of Chile is Spanish. The main language of Slovakia is Slovak. The main language of {} is",
            "The main language spoken in {} is",
            "Most people in {} speak",
        ),
        "Brazil:Portuguese, Mexico:Spanish, Argentina:Spanish, Peru:Spanish, Austria:German, Germany:German, France:French, "
        "Italy:Italian, Spain:Spanish, Portugal:Portuguese, Poland:Polish, Sweden:Swedish, Norway:Norwegian, Denmark:Danish, "
        "Finland:Finnish, Hungary:Hungarian, Greece:Greek, Turkey:Turkish, Russia:Russian, Ukraine:Ukrainian, "
        "Romania:Romanian, Bulgaria:Bulgarian, Croatia:Croatian, Albania:Albanian, Iceland:Icelandic, Estonia:Estonian, "
        "Latvia:Latvian, Lithuania:Lithuanian, Japan:Japanese, China:Mandarin/Chinese, South Korea:Korean, Vietnam:Vietnamese, "
        "Thailand:Thai, Cambodia:Khmer, Iran:Persian/Farsi, Israel:Hebrew, Egypt:Arabic, Iraq:Arabic, "
        "Bangladesh:Bengali/Bangla, Pakistan:Urdu/Punjabi, Indonesia:Indonesian/Bahasa Indonesia, Mongolia:Mongolian, Georgia:Georgian, "
        "Ethiopia:Amharic/Oromo, Cuba:Spanish, Haiti:Haitian Creole/Creole, Angola:Portuguese, Jamaica:English/Jamaican",
    ),
    "opposites": (
        (
            "The opposite of rough is smooth. The opposite of empty is full. The opposite of {} is",
            "The antonym of rough is smooth. The antonym of empty is full. The antonym of {} is",
            "The opposite of {} is",
        ),
        "hot:cold, big:small, tall:short, fast:slow, good:bad/evil, happy:sad/unhappy, light:dark/darkness/heavy, up:down, in:out, "
        "open:closed/close/shut, old:new/young, rich:poor, strong:weak, early:late, near:far, hard:soft/easy, wet:dry, "
        "clean:dirty, loud:quiet/soft/silent, high:low, deep:shallow, thick:thin, wide:narrow, heavy:light, "
        "long:short, left:right, first:last, day:night, black:white, love:hate/hatred, war:peace, life:death, true:false, "
        "right:wrong/left, begin:end, buy:sell, push:pull, win:lose, give:take/receive, remember:forget, arrive:depart/leave, ask:answer, "
        "accept:reject/refuse, success:failure, victory:defeat, north:south, east:west, summer:winter, "
        "sweet:sour/bitter, brave:cowardly/afraid, "
        "polite:rude/impolite, guilty:innocent, ancient:modern, increase:decrease, import:export, positive:negative, maximum:minimum, "
        "internal:external, optimism:pessimism, simple:complex/complicated/difficult, dangerous:safe, wise:foolish/unwise, generous:stingy/selfish/greedy",
    ),
    "past": (
        (
            "Today I eat, yesterday I ate. Today I run, yesterday I ran. Today I {}, yesterday I",
            "The past tense of eat is ate. The past tense of run is ran. The past tense of {} is",
            "Today I {}. Yesterday I",
        ),
        "go:went, see:saw, write:wrote, sing:sang, swim:swam, drink:drank, begin:began, take:took, "
        "give:gave, come:came, know:knew, grow:grew, fly:flew, draw:drew, throw:threw, blow:blew, break:broke, speak:spoke, "
        "steal:stole, choose:chose, freeze:froze, drive:drove, ride:rode, rise:rose, fall:fell, feel:felt, keep:kept, "
        "sleep:slept, leave:left, lose:lost, buy:bought, bring:brought, think:thought, teach:taught, catch:caught, "
        "fight:fought, find:found, hold:held, stand:stood, understand:understood, sell:sold, tell:told, say:said, make:made, "
        "build:built, send:sent, spend:spent, win:won, sit:sat, dig:dug, hide:hid, shake:shook, wear:wore",
    ),
    "order": (
        (
            "After Tuesday comes Wednesday. After four comes five. After {} comes",
            "What follows Tuesday is Wednesday. What follows four is five. What follows {} is",
            "Directly after {} comes",
        ),
        "January:February, February:March, March:April, April:May, May:June, June:July, July:August, August:September, "
        "September:October, October:November, November:December, December:January, Monday:Tuesday, "
        "Wednesday:Thursday, Thursday:Friday, Friday:Saturday, Saturday:Sunday, Sunday:Monday, one:two, two:three, "
        "three:four, five:six, six:seven, seven:eight, eight:nine, nine:ten, ten:eleven, eleven:twelve, "
        "spring:summer, summer:autumn/fall, autumn:winter, winter:spring, first:second, second:third, third:fourth, fourth:fifth, fifth:sixth",
    ),
    "young": (
        (
            "A young goat is called a kid. A young goose is called a gosling. A young {} is called a",
            "The baby of a goat is a kid. The baby of a goose is a gosling. The baby of a {} is a",
            "A young {} is called a",
        ),
        "dog:puppy/pup, cat:kitten, cow:calf, horse:foal/colt/filly, sheep:lamb, pig:piglet, bear:cub, lion:cub, tiger:cub, "
        "wolf:pup/cub, deer:fawn, frog:tadpole/froglet, kangaroo:joey, duck:duckling, swan:cygnet, chicken:chick, "
        "elephant:calf, whale:calf, seal:pup, rabbit:kit/bunny/kitten, butterfly:caterpillar/larva, "
        "koala:joey, hen:chick, fox:cub/kit, donkey:foal, giraffe:calf",
    ),
}

# ---------------------------------------------------------------------------------------------------------------------
# People: name|occupations|nationalities|year of birth. Each name has two words; all died long ago or are well documented.

FAMOUS = """
Albert Einstein|physicist|German/American|1879
Isaac Newton|physicist/mathematician|English/British|1643
Charles Darwin|naturalist/biologist|English/British|1809
Karl Marx|philosopher/economist|German|1818
Sigmund Freud|psychologist|Austrian|1856
Marie Curie|physicist/chemist|Polish/French|1867
Galileo Galilei|astronomer/physicist|Italian|1564
Johannes Kepler|astronomer/mathematician|German|1571
Nikola Tesla|inventor/engineer|Serbian/American|1856
Thomas Edison|inventor|American|1847
Benjamin Franklin|inventor/politician|American|1706
Abraham Lincoln|president/politician|American|1809
George Washington|president/general|American|1732
Ronald Reagan|president/politician/actor|American|1911
Theodore Roosevelt|president/politician|American|1858
Winston Churchill|politician|English/British|1874
Adolf Hitler|politician|German/Austrian|1889
Joseph Stalin|politician|Russian/Georgian|1878
Vladimir Lenin|politician|Russian|1870
Mahatma Gandhi|politician|Indian|1869
Nelson Mandela|president/politician|South African|1918
Napoleon Bonaparte|general/politician|French|1769
Frank Sinatra|singer|American|1915
William Shakespeare|writer/poet|English/British|1564
Jonathan Swift|writer|Irish/English/British|1667
Jane Austen|writer|English/British|1775
Virginia Woolf|writer|English/British|1882
Agatha Christie|writer|English/British|1890
Oscar Wilde|writer/poet|Irish|1854
Lewis Carroll|writer|English/British|1832
Mark Twain|writer|American|1835
Ernest Hemingway|writer|American|1899
Emily Dickinson|poet|American|1830
Walt Whitman|poet|American|1819
Robert Frost|poet|American|1874
Sylvia Plath|poet/writer|American|1932
Leo Tolstoy|writer|Russian|1828
Anton Chekhov|writer|Russian|1860
Victor Hugo|writer/poet|French|1802
Jules Verne|writer|French|1828
Franz Kafka|writer|Austrian/Czech|1883
Friedrich Nietzsche|philosopher|German|1844
Immanuel Kant|philosopher|German|1724
John Locke|philosopher|English/British|1632
David Hume|philosopher|Scottish/British|1711
Adam Smith|economist/philosopher|Scottish/British|1723
René Descartes|philosopher/mathematician|French|1596
Blaise Pascal|mathematician/philosopher|French|1623
Bertrand Russell|philosopher/mathematician|English/British|1872
Alan Turing|mathematician|English/British|1912
Ada Lovelace|mathematician|English/British|1815
Stephen Hawking|physicist|English/British|1942
Niels Bohr|physicist|Danish|1885
Dmitri Mendeleev|chemist|Russian|1834
Louis Pasteur|biologist/chemist|French|1822
Gregor Mendel|biologist/naturalist|Austrian/Czech|1822
Alexander Fleming|biologist|Scottish/British|1881
Antoine Lavoisier|chemist|French|1743
Pablo Picasso|painter|Spanish|1881
Claude Monet|painter|French|1840
Salvador Dalí|painter|Spanish|1904
Frida Kahlo|painter|Mexican|1907
Henri Matisse|painter|French|1869
Paul Cézanne|painter|French|1839
Andy Warhol|painter|American|1928
Johann Bach|composer|German|1685
Wolfgang Mozart|composer|Austrian|1756
Frédéric Chopin|composer|Polish|1810
Antonio Vivaldi|composer|Italian|1678
Richard Wagner|composer|German|1813
Elvis Presley|singer|American|1935
Michael Jackson|singer|American|1958
Bob Marley|singer|Jamaican|1945
Charlie Chaplin|actor|English/British|1889
Marilyn Monroe|actor|American|1926
Christopher Columbus|explorer|Italian|1451
Marco Polo|explorer|Italian|1254
James Cook|explorer|English/British|1728
Neil Armstrong|astronaut|American|1930
Amelia Earhart|pilot|American|1897
"""

OBSCURE = """
Maria Merian|naturalist/painter|German|1647
Caroline Herschel|astronomer|German/British|1750
Sophie Germain|mathematician|French|1776
Emilie Chatelet|physicist/mathematician|French|1706
Ida Noddack|chemist|German|1896
Lise Meitner|physicist|Austrian|1878
Chien-Shiung Wu|physicist|Chinese/American|1912
Henrietta Leavitt|astronomer|American|1868
Annie Cannon|astronomer|American|1863
Cecilia Payne|astronomer|British/American/English|1900
Maria Agnesi|mathematician|Italian|1718
Laura Bassi|physicist|Italian|1711
Lazzaro Spallanzani|biologist/naturalist|Italian|1729
Evangelista Torricelli|physicist/mathematician|Italian|1608
Bonaventura Cavalieri|mathematician|Italian|1598
Giuseppe Piazzi|astronomer|Italian|1746
Giuseppe Peano|mathematician|Italian|1858
Tullio Levi-Civita|mathematician|Italian|1873
Artemisia Gentileschi|painter|Italian|1593
Sofonisba Anguissola|painter|Italian|1532
Rosalba Carriera|painter|Italian|1673
Francesca Caccini|composer|Italian|1587
Barbara Strozzi|composer/singer|Italian|1619
Muzio Clementi|composer|Italian|1752
Clara Peeters|painter|Flemish/Dutch/Belgian|1594
Judith Leyster|painter|Dutch|1609
Rachel Ruysch|painter|Dutch|1664
Carel Fabritius|painter|Dutch|1622
Gerrit Dou|painter|Dutch|1613
Simon Stevin|mathematician/engineer|Flemish/Dutch/Belgian|1548
Willebrord Snellius|astronomer/mathematician|Dutch|1580
Heike Onnes|physicist|Dutch|1853
Pieter Zeeman|physicist|Dutch|1865
Jan Oort|astronomer|Dutch|1900
Abel Tasman|explorer|Dutch|1603
Willem Barentsz|explorer|Dutch|1550
Jan Swammerdam|biologist/naturalist|Dutch|1637
Ole Rømer|astronomer|Danish|1644
Nicolas Steno|naturalist|Danish|1638
Carl Nielsen|composer|Danish|1865
Inge Lehmann|physicist|Danish|1888
Vitus Bering|explorer|Danish|1681
Vilhelm Hammershøi|painter|Danish|1864
Anders Celsius|astronomer/physicist|Swedish|1701
Carl Scheele|chemist|Swedish|1742
Selma Lagerlöf|writer|Swedish|1858
August Strindberg|writer|Swedish|1849
Karin Boye|poet/writer|Swedish|1900
Hilma Klint|painter|Swedish|1862
Svante Arrhenius|chemist/physicist|Swedish|1859
Sofia Kovalevskaya|mathematician|Russian|1850
Mily Balakirev|composer|Russian|1837
Nikolai Leskov|writer|Russian|1831
Marina Tsvetaeva|poet|Russian|1892
Mikhail Vrubel|painter|Russian|1856
Pafnuty Chebyshev|mathematician|Russian|1821
Boleslaw Prus|writer|Polish|1847
Stanisław Lem|writer|Polish|1921
Stefan Banach|mathematician|Polish|1892
Karol Szymanowski|composer|Polish|1882
Cyprian Norwid|poet|Polish|1821
Johannes Hevelius|astronomer|Polish/German|1611
Fanny Mendelssohn|composer|German|1805
Louise Farrenc|composer|French|1804
Cécile Chaminade|composer|French|1857
Augustin Fresnel|physicist|French|1788
Urbain Leverrier|astronomer|French|1811
Rosa Bonheur|painter|French|1822
Berthe Morisot|painter|French|1841
Christine Pizan|writer/poet|French/Italian|1364
Aphra Behn|writer|English/British|1640
Mary Anning|naturalist|English/British|1799
Mary Somerville|mathematician/astronomer|Scottish/British|1780
William Harvey|biologist|English/British|1578
Thomas Harriot|mathematician/astronomer|English/British|1560
Hertha Ayrton|engineer/physicist|English/British|1854
Ethel Smyth|composer|English/British|1858
Fanny Burney|writer|English/British|1752
Matthew Flinders|explorer|English/British|1774
Isabella Bird|explorer/writer|English/British|1831
"""

BLOCK = 4
"""Famous names that exchange their halves."""

REAL = {
    "Paul Jackson",
    "Robert Newton",
    "Robert Lincoln",
    "John Churchill",
    "William Jackson",
    "Charles Franklin",
    "Marie Shakespeare",
}
"""People whom a shuffle must not make."""

ONSETS = "b br c ch d dr f fl g gr h j k kl l m n p pr r s st t tr v w".split()
VOWELS = "a e i o u ai".split()
CODAS = "n l r s nd rk m lt".split()
ENDINGS = {0: "a o an ina us er is".split(), 1: "er in ov ski sen ard elli ton man well os ansky ette ford".split()}
GIVEN = """Aaron Adrian Alan Alice Amanda Andrea Andrew Angela Anna Anne Arthur Barbara Brian Carlos Caroline Catherine Daniel
Dennis Diana Donald Edward Eleanor Elena Eric Eva Felix Gary Gordon Grace Harold Harry Helen Henry Hugh Ivan Jack Jason Jean Joan
Julia Karen Keith Kevin Laura Leonard Linda Lucy Luis Margaret Maria Martin Max Nancy Nathan Nicole Oliver Oscar Patricia Peter
Philip Ralph Raymond Rebecca Roger Roy Ruth Sandra Sarah Simon Sophie Stephanie Susan Teresa Tony Vincent Walter Wendy""".split()
FAMILY = """Abbott Baker Barker Barrett Bell Bennett Blair Bradley Burke Butler Carroll Carter Chandler Clarke Collins Cooper
Crawford Davies Doyle Dunn Elliott Evans Ferguson Fisher Fletcher Foster Fowler Gardner Gibson Graham Hamilton Harper Harris Hayes
Henderson Hopkins Howard Hughes Hunt Jenkins Jensen Keller Kelly Lambert Larson Lawson Logan Mason Meyer Miller Mitchell Moore
Morgan Morris Murphy Murray Nelson Olson Palmer Parsons Patterson Perry Peters Porter Quinn Reed Reynolds Richards Rogers
Sanders Saunders Schmidt Shaw Simpson Snyder Spencer Stewart Stone Sullivan Taylor Tucker Turner Walker Wallace Warner Watson
Weber Wells Wheeler Winter Wright""".split()


def questions() -> list[dict]:
    rows = []
    for relation, (_, pairs) in RELATIONS.items():
        for pair in pairs.split(", "):
            subject, _, answers = pair.partition(":")
            rows.append({"relation": relation, "subject": subject, "answers": answers.split("/")})
    return rows


def people(table: str, kind: str) -> list[dict]:
    rows = []
    for line in table.strip().splitlines():
        name, occupations, nationalities, year = line.split("|")
        assert len(name.split()) == 2, name
        row = {
            "name": name,
            "kind": kind,
            "occupation": occupations.split("/"),
            "nationality": nationalities.split("/"),
        }
        rows.append({**row, "born": int(year)})
    return rows


class Inventor:
    """Puts together names of given numbers of tokens: ordinary words for names of one token, drawn letters for others."""

    def __init__(self, tokenizer, taken: set[str]) -> None:
        self.tokenizer, self.taken = tokenizer, taken
        self.generator = torch.Generator().manual_seed(0)

    def _pick(self, options: list[str]) -> str:
        return options[int(torch.randint(len(options), (1,), generator=self.generator))]

    def _word(self, half: int, syllables: int) -> str:
        word = "".join(self._pick(ONSETS) + self._pick(VOWELS) + self._pick(["", *CODAS]) for _ in range(syllables))
        return (word + self._pick(ENDINGS[half])).capitalize()

    def name(self, tokens: tuple[int, int]) -> str:
        """A given name and a family name of so many tokens (with a space before)."""
        words = []
        for half, wanted in enumerate(tokens):
            for _ in range(20_000):
                word = self._pick((GIVEN, FAMILY)[half]) if wanted == 1 else self._word(half, 1 + wanted // 3)
                if word.lower() not in self.taken and count(self.tokenizer, word) == wanted:
                    break
            else:
                raise RuntimeError(f"no word of {wanted} tokens")
            self.taken.add(word.lower())
            words.append(word)
        return " ".join(words)


def count(tokenizer, word: str) -> int:
    return len(tokenizer.encode(" " + word, add_special_tokens=False))


def main() -> None:
    from transformers import AutoTokenizer

    from mi_course.interp.models import smollm2

    tokenizer = AutoTokenizer.from_pretrained(smollm2.fetch())
    famous, obscure = people(FAMOUS, "famous"), people(OBSCURE, "obscure")
    halves = [row["name"].split() for row in famous]
    assert len({half for pair in halves for half in pair}) == 2 * len(halves), "no half may be in two famous names"
    real = {word.lower() for row in famous + obscure for word in row["name"].split()}
    inventor = Inventor(tokenizer, set(real))
    names = famous + obscure
    for first, last in halves:
        name = inventor.name((count(tokenizer, first), count(tokenizer, last)))
        names.append({"name": name, "kind": "invented"})
    # Within blocks of four a first half goes to the second half of somebody else, so that a block shares no half with
    # another one; no name comes out that is in the list already, or is somebody else's.
    known, generator = {row["name"] for row in names} | REAL, torch.Generator().manual_seed(0)
    while True:
        blocks = torch.randperm(len(halves), generator=generator).view(-1, BLOCK).tolist()
        pairs = [(i, block[(k + 1) % BLOCK]) for block in blocks for k, i in enumerate(block)]
        shuffled = {i: f"{halves[i][0]} {halves[j][1]}" for i, j in pairs}
        if not known.intersection(shuffled.values()):
            break
    block_of = {i: number for number, block in enumerate(blocks) for i in block}
    names += [{"name": shuffled[i], "kind": "shuffled"} for i in range(len(halves))]
    for i, row in enumerate(names):
        row["block"] = f"block {block_of[i % len(halves)]}" if row["kind"] != "obscure" else row["name"]
    relations = {name: list(wordings) for name, (wordings, _) in RELATIONS.items()}
    out = {
        "format": 1,
        "script": "data/make_facts.py",
        "relations": relations,
        "questions": questions(),
        "names": names,
    }
    OUT.write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print({r: sum(q["relation"] == r for q in out["questions"]) for r in relations}, len(out["questions"]), len(names))


if __name__ == "__main__":
    main()
