/*
 * The dashboard's page. Every text that comes from the hub goes into the page as text (textContent), never as markup;
 * what could turn a line around or hide in it is shown as its number. Nothing is asked of any other origin.
 */
"use strict";

const POLL_MS = 2000;
const PAGE_ROWS = 50;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

/* ---- text ----------------------------------------------------------------------------------- */

/* Control characters, direction marks and overrides, invisible ones: shown by number. */
const HIDDEN_CHARACTERS = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
function clean(text) {
	if (text === null || text === undefined)
		return "";
	return String(text).replace(HIDDEN_CHARACTERS, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
}
function make(tag, className, text) {
	const element = document.createElement(tag);
	if (className)
		element.className = className;
	if (text !== undefined)
		element.textContent = text;
	return element;
}
/* Text of somebody else's: isolated, so that its direction stays its own. */
function said(text, className) {
	const element = make("bdi", className, clean(text));
	element.title = clean(text);
	return element;
}
const whole = new Intl.NumberFormat("en");
function count(n) {
	return whole.format(n);
}
function rate(n) {
	return n === 0 ? "0" : n < 10 ? n.toFixed(1) : count(Math.round(n));
}
function size(n) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let at = 0;
	while (n >= 1000 && at < units.length - 1) {
		n /= 1024;
		at++;
	}
	return (at === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + units[at];
}
function duration(ms) {
	if (ms < 10 && ms % 1 !== 0)
		return ms.toFixed(2) + " ms";
	if (ms < 1000)
		return Math.round(ms) + " ms";
	const s = ms / 1000;
	if (s < 120)
		return (s < 10 ? s.toFixed(1) : Math.round(s)) + " s";
	if (s < 7200)
		return Math.round(s / 60) + " min";
	if (s < 172800)
		return (s / 3600).toFixed(1) + " h";
	return (s / 86400).toFixed(1) + " d";
}
function clock(ms) {
	return new Date(ms).toLocaleTimeString([], {hour12: false});
}
function word(reason) {
	return clean(reason).replace(/_/g, " ");
}

/* ---- asking --------------------------------------------------------------------------------- */

let token = "";
let hub = {may_close: false, needs_token: false};

class Refused extends Error {
	constructor(status, text) {
		super(text);
		this.status = status;
	}
}
async function ask(path, options) {
	const init = {cache: "no-store", credentials: "omit", headers: {}, ...options};
	if (token)
		init.headers.Authorization = "Bearer " + token;
	init.signal = AbortSignal.timeout(15000);
	const response = await fetch(path, init);
	const answer = await response.json();
	if (!answer.ok)
		throw new Refused(response.status, clean(answer.text) || "the hub refused");
	return answer.result;
}

/* ---- drawing -------------------------------------------------------------------------------- */

function svg(tag, attributes) {
	const element = document.createElementNS(SVG, tag);
	for (const name in attributes)
		element.setAttribute(name, attributes[name]);
	return element;
}
function line(values, width, height, top, base) {
	const step = values.length > 1 ? width / (values.length - 1) : 0;
	return values.map((v, i) => (i === 0 ? "M" : "L") + (i * step).toFixed(1) + " " +
		(base - (top > 0 ? v / top : 0) * height).toFixed(1)).join("");
}
function spark(id, values, kind) {
	const root = svg("svg", {viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true"});
	const top = Math.max(1e-9, ...values);
	if (values.length > 1) {
		const path = line(values, 100, 26, top, 29);
		root.append(svg("path", {d: path + "L100 30L0 30Z", class: kind + "-area"}));
		root.append(svg("path", {d: path, class: kind}));
	}
	$(id).replaceChildren(root);
}
/* A scale's end that people can read: 1, 2 or 5 times a power of ten. */
function nice(top) {
	const power = Math.pow(10, Math.floor(Math.log10(top)));
	for (const step of [1, 2, 5, 10])
		if (step * power >= top)
			return step * power;
	return 10 * power;
}
let samples = [];
let hover = -1;
function drawRates() {
	const box = $("chart-rates");
	const width = Math.max(200, box.clientWidth), height = Math.max(80, box.clientHeight);
	const left = 34, bottom = 16, inner = width - left, tall = height - bottom - 6;
	const root = svg("svg", {viewBox: "0 0 " + width + " " + height, "aria-hidden": "true"});
	const opened = samples.map((s) => s[2]), ended = samples.map((s) => s[3]);
	const top = nice(Math.max(1, ...opened, ...ended));
	for (const part of [0, 0.5, 1]) {
		const y = 6 + tall * (1 - part);
		root.append(svg("line", {x1: left, x2: width, y1: y, y2: y, class: "grid"}));
		const label = svg("text", {x: left - 6, y: y + 4, "text-anchor": "end", class: "axis"});
		label.textContent = rate(top * part);
		root.append(label);
	}
	if (samples.length > 1) {
		for (const [values, kind] of [[opened, "come"], [ended, "go"]]) {
			const group = svg("g", {transform: "translate(" + left + ",0)"});
			const path = line(values, inner, tall, top, 6 + tall);
			group.append(svg("path", {d: path + "L" + inner + " " + (6 + tall) + "L0 " + (6 + tall) + "Z", class: kind + "-area"}));
			group.append(svg("path", {d: path, class: kind}));
			root.append(group);
		}
		const first = svg("text", {x: left, y: height - 2, class: "axis"});
		first.textContent = clock(samples[0][0]);
		const last = svg("text", {x: width, y: height - 2, "text-anchor": "end", class: "axis"});
		last.textContent = clock(samples[samples.length - 1][0]);
		root.append(first, last);
		if (hover >= 0 && hover < samples.length) {
			const x = left + hover * inner / (samples.length - 1);
			root.append(svg("line", {x1: x, x2: x, y1: 6, y2: 6 + tall, class: "cursor"}));
		}
	}
	box.replaceChildren(root);
	const shown = samples[hover >= 0 && hover < samples.length ? hover : samples.length - 1];
	if (shown) {
		$("legend-opened").textContent = rate(shown[2]);
		$("legend-ended").textContent = rate(shown[3]);
		$("legend-when").textContent = clock(shown[0]);
	}
}
function drawLatency(latencies) {
	const box = $("chart-latency");
	const width = Math.max(160, box.clientWidth), height = Math.max(60, box.clientHeight);
	const tall = height - 16;
	const root = svg("svg", {viewBox: "0 0 " + width + " " + height, "aria-hidden": "true"});
	const bounds = latencies.bounds_ms, step = width / (bounds.length + 1);
	["opening", "closing"].forEach((what, which) => {
		const counts = latencies[what].counts, top = Math.max(1, ...counts);
		counts.forEach((n, i) => {
			const h = n > 0 ? Math.max(1.5, n / top * tall) : 0;
			root.append(svg("rect", {x: (i * step + 1 + which * (step / 2 - 1)).toFixed(1), y: (tall - h).toFixed(1),
				width: Math.max(1, step / 2 - 2).toFixed(1), height: h.toFixed(1), class: which ? "go-bar" : "come-bar"}));
		});
	});
	root.append(svg("line", {x1: 0, x2: width, y1: tall, y2: tall, class: "grid"}));
	for (const i of [1, 4, 7, 10]) {
		const label = svg("text", {x: ((i + 1) * step).toFixed(1), y: height - 2, "text-anchor": "middle", class: "axis"});
		label.textContent = duration(bounds[i]);
		root.append(label);
	}
	box.replaceChildren(root);
}

/* ---- at a glance ---------------------------------------------------------------------------- */

/* One row of a small table with bars: name, share 0..1, cells. */
function barRow(name, share, cells) {
	const row = make("tr");
	const first = make("td");
	first.append(said(name));
	const bar = make("td"), fill = make("span");
	fill.style.width = Math.round(100 * share) + "%";
	bar.append(fill);
	row.append(first, bar);
	for (const cell of cells)
		row.append(make("td", "n", cell));
	return row;
}
function fill(id, rows, none) {
	if (rows.length === 0) {
		const row = make("tr"), cell = make("td", "none", none);
		cell.colSpan = 4;
		row.append(cell);
		rows = [row];
	}
	$(id).replaceChildren(...rows);
}
function showParts(id, parts, key) {
	const most = Math.max(1, ...parts.map((p) => p.connections));
	fill(id, parts.map((p) => barRow(String(p[key]), p.connections / most,
		[count(p.connections), size(p.queue_bytes)])), "none open");
}
function showReasons(overview) {
	const reasons = overview.reasons.slice().sort((a, b) => b.recent - a.recent || b.total - a.total).slice(0, 8);
	const most = Math.max(1, ...reasons.map((r) => r.recent));
	fill("reasons", reasons.map((r) => barRow(word(r.reason), r.recent / most, [count(r.recent), count(r.total)])), "none yet");
	$("reasons-window").textContent = "lately: " + duration(overview.recent_ms);
}
function showLatencies(latencies) {
	$("latencies").replaceChildren(...["opening", "closing"].map((what) => {
		const row = make("tr"), name = make("th", "", what);
		name.scope = "row";
		row.append(name);
		for (const at of ["p50_ms", "p90_ms", "p99_ms"])
			row.append(make("td", "n", latencies[what][at] === undefined ? "–" : duration(latencies[what][at])));
		return row;
	}));
	drawLatency(latencies);
}
const FAULTS = [
	["no_memory", "times out of memory"], ["log_lines_lost", "log lines lost"], ["accept_errors", "failed accepts"],
	["accept_paused", "pauses of accepting"], ["cq_overflows", "completion overflows"], ["receive_starved", "receives without a buffer"],
];
let faultsBefore = null;
function showHealth(health) {
	const faults = FAULTS.filter(([key]) => health[key] > 0);
	const grows = faultsBefore !== null && FAULTS.some(([key]) => health[key] > faultsBefore[key]);
	const figure = $("now-health");
	const isGood = faults.length === 0 && health.turn_us_max < 1e6;
	figure.textContent = isGood ? "good" : grows ? "look" : "was strained";
	figure.className = "figure small " + (isGood ? "good" : grows ? "bad" : "");
	const items = faults.slice(0, 3).map(([key, text]) => make("li", "", count(health[key]) + " " + text));
	items.push(make("li", "", "longest turn " + duration(health.turn_us_max / 1000)));
	$("now-faults").replaceChildren(...items);
	faultsBefore = health;
}
let newest = 0;
function showOverview(overview) {
	$("now-open").textContent = count(overview.open);
	$("now-slots").textContent = "of " + count(overview.slots) + (overview.opening > 0 ? ", " + count(overview.opening) + " opening or ending" : "");
	$("count-open").textContent = count(overview.open);
	showHealth(overview.health);
	showParts("groups", overview.groups.slice().sort((a, b) => b.connections - a.connections).slice(0, 8), "group");
	showParts("shards", overview.shards.slice(0, 16), "shard");
	if (!overview.rates)
		return; /* the hub has just begun */
	$("now-opened").textContent = rate(overview.rates.opened);
	$("now-opening").textContent = count(overview.opened) + " ever";
	$("now-ended").textContent = rate(overview.rates.ended);
	$("now-failed").textContent = count(overview.ended) + " ever";
	$("now-in").textContent = size(Math.round(overview.rates.bytes_in)) + "/s";
	$("now-messages-in").textContent = rate(overview.rates.messages_in) + " messages/s";
	$("now-out").textContent = size(Math.round(overview.rates.bytes_out)) + "/s";
	$("now-messages-out").textContent = rate(overview.rates.messages_out) + " messages/s";
	if (overview.samples.newest < newest)
		samples = []; /* another hub's life */
	samples.push(...overview.samples.rows);
	samples = samples.slice(-300);
	newest = overview.samples.newest;
	[["spark-open", 1, "come"], ["spark-opened", 2, "come"], ["spark-ended", 3, "go"], ["spark-in", 5, "come"], ["spark-out", 6, "go"]]
		.forEach(([id, at, kind]) => spark(id, samples.map((s) => s[at]), kind));
	drawRates();
	showReasons(overview);
	showLatencies(overview.latencies);
}

/* ---- the tables ----------------------------------------------------------------------------- */

const view = {ended: false, search: "", sort: "age_ms", descending: false, offset: 0, matched: 0};

const OPEN_COLUMNS = [
	{key: "name", label: "Peer", cell: "person"},
	{key: "group", label: "Group", cell: "group"},
	{key: "address", label: "Address", cell: "address"},
	{key: "direction", label: "Way"},
	{key: "shard", label: "Shard", number: count},
	{key: "age_ms", label: "Open for", number: duration},
	{key: "idle_ms", label: "Idle", number: duration},
	{key: "bytes_received", label: "In", number: size},
	{key: "bytes_sent", label: "Out", number: size},
	{key: "bytes_per_second", label: "Rate", number: (n) => size(n) + "/s"},
	{key: "queue_bytes", label: "Queued", number: size},
];
const ENDED_COLUMNS = ["Ended", "Peer", "Address", "Reason", "By", "Open for", "In", "Out", "Words"];

function person(cell, name, identity) {
	if (name)
		cell.append(said(name));
	cell.append(said(identity || "(not known)", name ? "mono faint" : "mono"));
}
function labelled(cell, label) {
	cell.dataset.label = label;
	return cell;
}
function openRow(row, item) {
	const cells = OPEN_COLUMNS.map((column) => {
		const cell = labelled(make("td", column.cell || (column.number ? "n" : "")), column.label);
		if (column.cell === "person")
			person(cell, item.name, item.identity);
		else if (column.cell)
			cell.append(said(item[column.key], column.cell === "address" ? "mono" : ""));
		else if (column.number)
			cell.textContent = column.number(item[column.key]);
		else
			cell.textContent = item.direction + (item.kind === "neighbor" ? "" : ", " + item.kind);
		return cell;
	});
	row.replaceChildren(...cells);
	if (hub.may_close)
		row.append(row.act);
}
/* What is drawn anew, or moves, must not take the keyboard's place away. */
function keepFocus(draw) {
	const held = document.activeElement;
	draw();
	if (held && held !== document.activeElement && held.isConnected)
		held.focus({preventScroll: true});
}
const rows = new Map(); /* id to row, those on the page */
function showOpen(page) {
	if (page.matched > 0 && page.offset >= page.matched) {
		view.offset = Math.floor((page.matched - 1) / PAGE_ROWS) * PAGE_ROWS;
		wake();
		return;
	}
	const seen = new Set(), body = $("body-open");
	let at = body.firstElementChild;
	for (const item of page.connections) {
		let row = rows.get(item.id);
		seen.add(item.id);
		if (!row) {
			row = make("tr");
			row.dataset.id = item.id;
			row.act = make("td", "act");
			const button = make("button", "", "Close");
			button.type = "button";
			button.addEventListener("click", () => closeAsk(row.item));
			row.act.append(button);
			rows.set(item.id, row);
		}
		row.item = item;
		row.act.firstChild.setAttribute("aria-label", "Close the connection of " + clean(item.name || item.identity));
		openRow(row, item);
		if (row === at)
			at = at.nextElementSibling;
		else
			body.insertBefore(row, at);
	}
	for (const [id, row] of rows)
		if (!seen.has(id)) {
			row.remove();
			rows.delete(id);
		}
	view.matched = page.matched;
	const last = page.offset + page.connections.length;
	$("range").textContent = page.matched === 0 ? "0" : count(page.offset + 1) + "–" + count(last) + " of " + count(page.matched);
	$("previous").disabled = page.offset === 0;
	$("next").disabled = last >= page.matched;
	$("empty").hidden = page.matched > 0;
	$("empty").textContent = view.search ? "No open connection matches." : "Nobody is connected.";
}
function endedRow(item) {
	const row = make("tr");
	const cell = (at, className, ...children) => {
		const made = labelled(make("td", className), ENDED_COLUMNS[at]);
		made.append(...children);
		row.append(made);
		return made;
	};
	cell(0, "", clock(1000 * item.time));
	person(cell(1, "person"), "", item.identity);
	cell(2, "address", said(item.address, "mono"));
	cell(3, "", word(item.reason));
	cell(4, "", (item.side || "–") + ", " + item.how);
	cell(5, "n", item.was_open ? duration(item.open_ms) : "never");
	cell(6, "n", size(item.bytes_received));
	cell(7, "n", size(item.bytes_sent));
	cell(8, "words", said([item.text, item.peer_text && "peer: " + item.peer_text].filter(Boolean).join("; ")));
	return row;
}
function showEnded(ended) {
	$("body-ended").replaceChildren(...ended.map(endedRow));
	$("range").textContent = "the last " + count(ended.length);
	$("previous").disabled = $("next").disabled = true;
	$("empty").hidden = ended.length > 0;
	$("empty").textContent = view.search ? "None that is remembered begins like this: give an id, an identity's beginning, or an address." : "None has ended yet.";
}
function showSort() {
	for (const column of OPEN_COLUMNS) {
		if (column.key !== view.sort)
			column.head.removeAttribute("aria-sort");
		else
			column.head.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
	}
	$("sort").value = view.sort;
}
function sortBy(column) {
	if (view.sort === column.key)
		view.descending = !view.descending;
	else
		view.descending = column.number !== undefined && column.key !== "age_ms" && column.key !== "shard";
	view.sort = column.key;
	view.offset = 0;
	showSort();
	wake();
}
function choose(ended) {
	view.ended = ended;
	$("tab-open").setAttribute("aria-pressed", String(!ended));
	$("tab-ended").setAttribute("aria-pressed", String(ended));
	$("rows-open").hidden = ended;
	$("rows-ended").hidden = !ended;
	$("sort").parentElement.hidden = ended;
	wake();
}
function tablesBegin() {
	for (const column of OPEN_COLUMNS) {
		column.head = make("th", column.number ? "n" : "");
		column.head.scope = "col";
		const button = make("button", "", column.label);
		button.type = "button";
		button.addEventListener("click", () => sortBy(column));
		column.head.append(button);
		$("head-open").append(column.head);
		const option = make("option", "", column.label);
		option.value = column.key;
		$("sort").append(option);
	}
	const act = make("th");
	act.append(make("span", "hidden", "Close"));
	$("head-open").append(act);
	ENDED_COLUMNS.forEach((label, at) => {
		const head = make("th", at >= 5 && at <= 7 ? "n" : "");
		head.scope = "col";
		head.append(make("span", "", label));
		$("head-ended").append(head);
	});
	showSort();
	$("sort").addEventListener("change", () => sortBy(OPEN_COLUMNS.find((c) => c.key === $("sort").value)));
	$("tab-open").addEventListener("click", () => choose(false));
	$("tab-ended").addEventListener("click", () => choose(true));
	$("previous").addEventListener("click", () => {
		view.offset = Math.max(0, view.offset - PAGE_ROWS);
		wake();
	});
	$("next").addEventListener("click", () => {
		view.offset += PAGE_ROWS;
		wake();
	});
	let typed = 0;
	$("search").addEventListener("input", () => {
		clearTimeout(typed);
		typed = setTimeout(() => {
			view.search = $("search").value.trim();
			view.offset = 0;
			wake();
		}, 200);
	});
	$("search-form").addEventListener("submit", (event) => event.preventDefault());
}

/* ---- closing -------------------------------------------------------------------------------- */

let closing = null;
let toastEnd = 0;
function toast(text) {
	$("toast").textContent = text;
	$("toast").hidden = false;
	clearTimeout(toastEnd);
	toastEnd = setTimeout(() => { $("toast").hidden = true; }, 6000);
}
function closeAsk(item) {
	closing = item;
	const facts = [];
	for (const [term, value] of [["Peer", item.name], ["Identity", item.identity], ["Group", item.group], ["Address", item.address], ["Id", item.id]]) {
		if (!value)
			continue;
		const fact = make("dd");
		fact.append(said(value));
		facts.push(make("dt", "", term), fact);
	}
	$("close-facts").replaceChildren(...facts);
	$("close-error").textContent = "";
	$("close-token").value = token;
	$("how-graceful").checked = true;
	$("close-dialog").showModal();
	(token ? $("close-go") : $("close-token")).focus();
}
async function closeGo(event) {
	event.preventDefault();
	token = $("close-token").value;
	const request = {id: closing.id, how: $("how-abort").checked ? "abort" : "graceful"};
	if ($("close-text").value)
		request.text = $("close-text").value;
	$("close-go").disabled = true;
	try {
		await ask("api/close", {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(request)});
		$("close-dialog").close();
		const row = rows.get(closing.id);
		if (row)
			row.classList.add("leaving");
		toast("Connection " + closing.id + " is closing.");
		setTimeout(wake, 1100); /* the hub's table is at most a second old */
	} catch (error) {
		if (error.status === 401 && !hub.needs_token)
			token = "";
		$("close-error").textContent = error.status === 401 ? "This is not the hub's token." : error.message;
	} finally {
		$("close-go").disabled = false;
	}
}

/* ---- the loop ------------------------------------------------------------------------------- */

let paused = false, timer = 0, isAsking = false, isStale = false;
function say(state, text) {
	$("state").className = "state " + state;
	$("state-text").textContent = text;
}
async function turn() {
	if (!hub.version || hub.version === "") {
		hub = await ask("api/hub");
		hubAt = Date.now();
		document.title = "peerhub " + clean(hub.identity).slice(0, 12);
		$("hub-identity").textContent = clean(hub.identity);
		$("hub-version").textContent = "version " + clean(hub.version);
	}
	if (hub.needs_token && !token) {
		if (!$("token-dialog").open)
			$("token-dialog").showModal();
		say("lost", "token needed");
		return;
	}
	const overview = ask("api/overview?since=" + newest);
	const words = new URLSearchParams();
	let table;
	if (!view.ended) {
		words.set("search", view.search);
		words.set("sort", view.sort);
		words.set("order", view.descending ? "desc" : "asc");
		words.set("offset", view.offset);
		words.set("limit", PAGE_ROWS);
		table = ask("api/connections?" + words);
	} else if (view.search) {
		words.set("what", view.search);
		table = ask("api/explain?" + words);
	} else {
		table = ask("api/ended");
	}
	const ended = view.ended;
	const [seen, listed] = await Promise.all([overview, table]);
	showOverview(seen);
	if (ended !== view.ended)
		isStale = true;
	else if (ended)
		showEnded(listed.ended || (listed.connection && listed.state === "ended" ? [listed.connection] : listed.connections || []));
	else
		keepFocus(() => showOpen(listed));
	say("live", "up " + duration(hub.uptime_ms + Date.now() - hubAt));
}
let hubAt = 0;
async function go() {
	if (isAsking) {
		isStale = true;
		return;
	}
	clearTimeout(timer);
	isAsking = true;
	isStale = false;
	try {
		await turn();
	} catch (error) {
		if (error.status === 401) {
			token = "";
			$("token-error").textContent = "This is not the hub's token.";
		}
		if (!(error instanceof Refused))
			hub = {...hub, version: ""}; /* perhaps another one answers next */
		say("lost", error instanceof Refused ? error.message : "no answer, trying again");
	}
	isAsking = false;
	if (!paused && !document.hidden)
		timer = setTimeout(go, isStale ? 0 : POLL_MS);
}
/* Now, not at the next turn. */
function wake() {
	go();
}
document.addEventListener("visibilitychange", () => {
	if (!document.hidden && !paused)
		wake();
});
$("pause").addEventListener("click", () => {
	paused = !paused;
	$("pause").setAttribute("aria-pressed", String(paused));
	$("pause").textContent = paused ? "Go on" : "Pause";
	if (paused)
		say("", "paused");
	else
		wake();
});
$("close-form").addEventListener("submit", closeGo);
$("close-cancel").addEventListener("click", () => $("close-dialog").close());
$("token-form").addEventListener("submit", (event) => {
	event.preventDefault();
	token = $("token").value;
	$("token-error").textContent = "";
	$("token-dialog").close();
	wake();
});
$("chart-rates").addEventListener("pointermove", (event) => {
	const box = $("chart-rates").getBoundingClientRect();
	const part = (event.clientX - box.left - 34) / Math.max(1, box.width - 34);
	hover = Math.min(samples.length - 1, Math.max(0, Math.round(part * (samples.length - 1))));
	drawRates();
});
$("chart-rates").addEventListener("pointerleave", () => {
	hover = -1;
	drawRates();
});
window.addEventListener("resize", drawRates);
tablesBegin();
wake();
