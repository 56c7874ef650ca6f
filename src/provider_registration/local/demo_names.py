"""Names and locations of demo companies, by country. Surnames come from Faker."""
# ruff: noqa: RUF001 - letters of other alphabets that look like Latin ones are the point

from __future__ import annotations

from dataclasses import dataclass

from provider_registration.candidates.company import Product

APPLES, ORANGES, GRAPES = Product.APPLES.value, Product.ORANGES.value, Product.GRAPES.value
BANANAS, MANGOES = Product.BANANAS.value, Product.MANGOES.value


@dataclass(frozen=True, slots=True)
class Country:
    """`name` in its own language; a place is a name, with `|` and a Latin spelling if needed.

    `company_names` may use {surname} and {place}; `domain_words` start the company's domain; a `#` in `phone` is any
    digit; `grows` lists the country's own products. The first three fields share a line below.
    """

    locale: str  # Faker's
    name: str
    phone: str
    places: tuple[str, ...]
    company_names: tuple[str, ...]
    domain_words: tuple[str, ...]
    mailboxes: tuple[str, ...]
    grows: tuple[str, ...]


# Numbers reserved for fiction, in countries that have them (US, UK, France, Germany, Sweden).
COUNTRIES = (
    Country(
        *("es_ES", "España", "+34 96# 555 ###"),
        ("Valencia", "Almería", "Lleida", "Murcia", "Castelló", "Huelva", "Logroño"),
        ("Frutas {surname} S.L.", "Huerta de {place}", "Cítricos {surname}", "Hermanos {surname} {place} S.A."),
        ("frutas", "huerta", "citricos", "campo"),
        ("info", "ventas", "pedidos"),
        (ORANGES, GRAPES, APPLES),
    ),
    Country(
        *("es_MX", "México", "+52 33 5550 ####"),
        ("Uruapan", "Tapachula", "Mazatlán", "Hermosillo", "Tecomán", "Veracruz"),
        ("Frutícola {surname} S.A. de C.V.", "Agrícola {place}", "Mangos {surname} de {place}"),
        ("agricola", "fruticola", "mangos"),
        ("contacto", "ventas", "exportacion"),
        (MANGOES, BANANAS, ORANGES, GRAPES),
    ),
    Country(
        *("es_CL", "Chile", "+56 2 2555 ####"),
        ("Curicó", "Copiapó", "Rancagua", "Ovalle", "Talca", "Ñuñoa"),
        ("Exportadora {surname} Ltda.", "Viñas de {place} {surname}", "Manzanas {surname}"),
        ("exportadora", "uvas", "huertos"),
        ("contacto", "ventas", "export"),
        (GRAPES, APPLES),
    ),
    Country(
        *("es_CO", "Colombia", "+57 604 555 ####"),
        ("Apartadó", "Santa Marta", "Turbo", "Espinal", "Medellín"),
        ("Bananeras {surname} S.A.S.", "Comercializadora {place} {surname}", "Fincas {surname} & Cía."),
        ("bananeras", "fincas", "tropicales"),
        ("info", "comercial", "ventas"),
        (BANANAS, MANGOES, ORANGES),
    ),
    Country(
        *("pt_BR", "Brasil", "+55 87 5550 ####"),
        ("Petrolina", "Juazeiro", "São Joaquim", "Bebedouro", "Registro", "Vacaria"),
        ("Fazenda {surname} Ltda.", "Frutas {place} {surname}", "Irmãos {surname} Agrícola"),
        ("fazenda", "frutas", "agricola"),
        ("contato", "vendas", "exportacao"),
        (MANGOES, GRAPES, ORANGES, BANANAS, APPLES),
    ),
    Country(
        *("pt_PT", "Portugal", "+351 2## 555 ###"),
        ("Alcobaça", "Funchal", "Silves", "Viseu", "Setúbal"),
        ("Quinta {surname} Lda.", "Pomares de {place} {surname}", "{surname} & Filhos"),
        ("quinta", "pomares", "frutas"),
        ("geral", "vendas", "info"),
        (APPLES, ORANGES, BANANAS, GRAPES),
    ),
    Country(
        *("fr_FR", "France", "+33 1 99 00 ## ##"),
        ("Cavaillon", "Agen", "Perpignan", "Angers", "Moissac", "Bergerac"),
        ("Vergers {surname} SARL", "Les Fruits de {place} – {surname}", "Domaine {surname} et Fils"),
        ("vergers", "fruits", "domaine"),
        ("contact", "commandes", "ventes"),
        (APPLES, GRAPES),
    ),
    Country(
        *("de_DE", "Deutschland", "+49 30 23125 ###"),
        ("Jork", "Bodensee", "Meißen", "Würzburg", "Werder (Havel)"),
        ("Obsthof {surname} GmbH", "{surname} & Söhne Früchte", "Obstgroßhandel {place} {surname} KG"),
        ("obsthof", "fruechte", "obsthandel"),
        ("info", "verkauf", "bestellung"),
        (APPLES, GRAPES),
    ),
    Country(
        *("it_IT", "Italia", "+39 0## 555 ####"),
        ("Catania", "Cuneo", "Bolzano", "Bari", "Forlì", "Rosarno"),
        ("Agrumi {surname} S.r.l.", "Frutteti {surname} di {place}", "Fratelli {surname} Ortofrutta"),
        ("agrumi", "frutteti", "ortofrutta"),
        ("info", "vendite", "ordini"),
        (ORANGES, GRAPES, APPLES),
    ),
    Country(
        *("pl_PL", "Polska", "+48 48 555 ## ##"),
        ("Grójec", "Sandomierz", "Łącko", "Góra Kalwaria", "Kraśnik"),
        ("Sady {surname} Sp. z o.o.", "Owoce {place} – {surname}", "Gospodarstwo Sadownicze {surname}"),
        ("sady", "owoce", "jablka"),
        ("biuro", "sprzedaz", "zamowienia"),
        (APPLES, GRAPES),
    ),
    Country(
        *("cs_CZ", "Česko", "+420 555 ### ###"),
        ("Litoměřice", "Mělník", "Znojmo", "Břeclav", "Jičín"),
        ("Ovocné sady {surname} s.r.o.", "Vinařství {surname} {place}", "Ovoce {surname} a synové"),
        ("sady", "ovoce", "vinarstvi"),
        ("info", "obchod", "prodej"),
        (APPLES, GRAPES),
    ),
    Country(
        *("tr_TR", "Türkiye", "+90 242 555 ## ##"),
        ("Anamur", "Finike", "Eğirdir", "Manisa", "Alaşehir", "Adana"),
        ("{surname} Meyvecilik A.Ş.", "{place} Narenciye – {surname}", "{surname} Kardeşler Tarım Ltd. Şti."),
        ("meyve", "narenciye", "tarim"),
        ("bilgi", "satis", "ihracat"),
        (ORANGES, GRAPES, APPLES, BANANAS),
    ),
    Country(
        *("sv_SE", "Sverige", "+46 8 465 004 ##"),
        ("Kivik", "Båstad", "Gränna", "Österlen"),
        ("{surname}s Äppelgård AB", "{place} Frukt – {surname}", "Fruktgrossist {surname} & Söner"),
        ("frukt", "appelgard"),
        ("info", "order"),
        (APPLES, BANANAS),
    ),
    Country(
        *("en_GB", "United Kingdom", "+44 1632 960###"),
        ("Faversham", "Hereford", "Wisbech", "Evesham", "Southampton"),
        ("{surname} & Sons Orchards Ltd", "{surname} Fruit of {place}", "{place} Fresh – {surname} Brothers"),
        ("orchards", "fruit", "fresh"),
        ("sales", "orders", "hello"),
        (APPLES, GRAPES, BANANAS),
    ),
    Country(
        *("en_US", "United States", "+1 509 555 01##"),
        ("Yakima, WA", "Fresno, CA", "Lakeland, FL", "Wenatchee, WA", "Traverse City, MI"),
        ("{surname} Family Farms LLC", "{surname} Citrus Co.", "{surname} & Daughters Produce, Inc."),
        ("farms", "citrus", "produce"),
        ("sales", "orders", "office"),
        (APPLES, ORANGES, GRAPES),
    ),
    Country(
        *("en_KE", "Kenya", "+254 20 555 ####"),
        ("Makueni", "Meru", "Malindi", "Murang'a", "Kisii"),
        ("{surname} Growers Ltd", "{place} Fruit Farmers – {surname}", "{surname} Exporters (EPZ) Ltd"),
        ("growers", "mango", "exporters"),
        ("info", "sales", "export"),
        (MANGOES, BANANAS, ORANGES),
    ),
    Country(
        *("yo_NG", "Naìjíríà", "+234 1 555 ####"),
        ("Ìbàdàn", "Abẹ́òkúta", "Òṣogbo", "Oǹdó"),
        ("{surname} Farms Nig. Ltd", "{place} Agro – {surname}", "Oko {surname}"),
        ("farms", "agro", "oko"),
        ("info", "sales"),
        (ORANGES, MANGOES, BANANAS),
    ),
    Country(
        *("id_ID", "Indonesia", "+62 21 555 ####"),
        ("Malang", "Indramayu", "Lumajang", "Jember", "Bogor"),
        ("PT {surname} Buah Segar", "CV Kebun {place} {surname}", "UD {surname} Jaya"),
        ("buah", "kebun", "segar"),
        ("info", "penjualan"),
        (MANGOES, BANANAS, ORANGES, APPLES),
    ),
    Country(
        *("vi_VN", "Việt Nam", "+84 28 5550 ####"),
        ("Cao Lãnh", "Ninh Thuận", "Bến Tre", "Đồng Nai", "Cái Bè"),
        ("Công ty TNHH Trái cây {surname} {place}", "Vườn {surname} – {place}", "Xoài {place} {surname}"),
        ("traicay", "xoai", "vuon"),
        ("lienhe", "banhang"),
        (MANGOES, BANANAS, GRAPES, ORANGES),
    ),
    Country(
        *("ru_RU", "Россия", "+7 861 555-##-##"),
        ("Краснодар|krasnodar", "Мичуринск|michurinsk", "Дербент|derbent", "Тамань|taman"),
        ("ООО «Сады {surname}»", "Фрукты {place} – {surname}", "КФХ {surname}"),
        ("sady", "frukty", "yabloko"),
        ("info", "zakaz", "office"),
        (APPLES, GRAPES),
    ),
    Country(
        *("uk_UA", "Україна", "+380 44 555 ## ##"),
        ("Вінниця|vinnytsia", "Одеса|odesa", "Чернівці|chernivtsi", "Ужгород|uzhhorod"),
        ("ТОВ «Сади {surname}»", "Фермерське господарство {surname}", "Яблука {place} – {surname}"),
        ("sady", "yabluka", "ferma"),
        ("info", "prodazh"),
        (APPLES, GRAPES),
    ),
    Country(
        *("el_GR", "Ελλάδα", "+30 2# 5550 ####"),
        ("Άργος|argos", "Νάουσα|naousa", "Κόρινθος|korinthos", "Άρτα|arta", "Χανιά|chania"),
        ("Αφοί {surname} Ο.Ε.", "Εσπεριδοειδή {surname} – {place}", "Αμπελώνες {surname} Α.Ε."),
        ("frouta", "ampelones", "portokali"),
        ("info", "poliseis"),
        (ORANGES, GRAPES, APPLES),
    ),
    Country(
        *("ar_AA", "مصر", "+20 2 5550 ####"),
        ("الإسماعيلية|ismailia", "النوبارية|nubaria", "الفيوم|fayoum", "دمياط|damietta"),
        ("شركة {surname} للفواكه", "مزارع {place} – {surname}", "{surname} وأولاده للتصدير"),
        ("fawakeh", "mazare", "export"),
        ("info", "sales"),
        (ORANGES, MANGOES, GRAPES, BANANAS),
    ),
    Country(
        *("he_IL", "ישראל", "+972 4 555 ####"),
        ("חדרה|hadera", "רחובות|rehovot", "קריית שמונה|kiryat-shmona", "צפת|safed"),
        ('פרדסי {surname} בע"מ', "מטעי {surname} – {place}", "פירות {surname} ובניו"),
        ("pardes", "mataim", "perot"),
        ("info", "office"),
        (ORANGES, APPLES, GRAPES, MANGOES, BANANAS),
    ),
    Country(
        *("hi_IN", "भारत", "+91 22 5550 ####"),
        ("नागपुर|nagpur", "नासिक|nashik", "रत्नागिरी|ratnagiri", "शिमला|shimla", "जलगाँव|jalgaon"),
        ("{surname} फ्रूट्स प्रा. लि.", "{place} आम भंडार – {surname}", "{surname} एंड संस"),
        ("phal", "aam", "bagan"),
        ("sampark", "sales"),
        (MANGOES, BANANAS, ORANGES, GRAPES, APPLES),
    ),
    Country(
        *("th_TH", "ประเทศไทย", "+66 2 555 ####"),
        ("เชียงใหม่|chiang-mai", "จันทบุรี|chanthaburi", "ราชบุรี|ratchaburi", "เพชรบูรณ์|phetchabun"),
        ("บริษัท {surname} ผลไม้ จำกัด", "สวน{surname} {place}", "ห้างหุ้นส่วน {surname} และบุตร"),
        ("phonlamai", "suan", "mamuang"),
        ("info", "sales"),
        (MANGOES, BANANAS, ORANGES),
    ),
    Country(
        *("zh_CN", "中国", "+86 10 5550 ####"),
        ("烟台|yantai", "赣州|ganzhou", "吐鲁番|turpan", "攀枝花|panzhihua", "洛川|luochuan"),
        ("{place}{surname}氏果业有限公司", "{surname}记鲜果({place})", "{place}市{surname}家果园合作社"),
        ("guoye", "xianguo", "guoyuan"),
        ("info", "xiaoshou"),
        (APPLES, ORANGES, GRAPES, MANGOES, BANANAS),
    ),
    Country(
        *("ja_JP", "日本", "+81 3-5550-####"),
        ("青森|aomori", "愛媛|ehime", "甲府|kofu", "宮崎|miyazaki", "和歌山|wakayama"),
        ("株式会社{surname}青果", "{place}{surname}農園", "有限会社{surname}果樹園({place})"),
        ("seika", "nouen", "kajuen"),
        ("info", "eigyo"),
        (APPLES, ORANGES, GRAPES, MANGOES),
    ),
    Country(
        *("ko_KR", "대한민국", "+82 2-555-####"),
        ("제주|jeju", "영주|yeongju", "김천|gimcheon", "나주|naju", "충주|chungju"),
        ("주식회사 {surname}가네 과일", "{place} {surname}씨 농원", "{place}청과 {surname}&아들"),
        ("gwail", "nongwon", "cheonggwa"),
        ("info", "sales"),
        (APPLES, ORANGES, GRAPES),
    ),
)

# Reasons for rejections; None: no reason given.
REJECTION_REASONS = (
    None,
    None,
    "The food safety certificate has expired.",
    "Already registered under another name.",
    "The stated capacity could not be confirmed on site.",
    "No answer to three calls and two e-mails.",
    "Does not deliver to our warehouses.",
    "Certificado fitosanitario caducado; puede volver a registrarse cuando lo renueve.",
    "Die Angaben zur Lieferkapazität widersprechen sich.",
    "書類が不足しています。",
)
