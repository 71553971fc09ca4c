// Moves the numbers of a page, and puts its times into the viewer's zone. A page works without it.
"use strict";

const grouped = new Intl.NumberFormat("en-US");
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CHARTS_EVERY = 5000; // milliseconds: the server draws no more often
const AGAIN_AFTER = 3000; // milliseconds until a page is asked for again that could not be made
const SILENT_AFTER = 20000; // milliseconds without a word: the server says that it is there every 15 s

function all(selector, within = document) {
  return within.querySelectorAll(selector);
}

function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function showTimes(within = document) {
  for (const each of all("time[datetime]", within)) {
    write(each, local.format(new Date(each.dateTime)));
  }
}

function share(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)}\u00a0%` : "";
}

function showAge(at, trouble) {
  const banner = document.getElementById("trouble");
  banner.hidden = !trouble;
  document.body.classList.toggle("old", Boolean(trouble));
  write(banner.querySelector("[data-trouble]"), trouble || "");
  if (at) {
    const time = document.createElement("time");
    time.dateTime = at;
    time.title = `${at.slice(0, 19).replace("T", " ")} UTC`;
    time.textContent = local.format(new Date(at));
    banner.querySelector("[data-at]").replaceChildren(time);
  }
}

function showProgress(within, audience, settled) {
  for (const bar of all("[data-progress]", within)) {
    bar.max = audience || 1;
    bar.value = settled;
  }
  write(within.querySelector("[data-audience]"), grouped.format(audience));
  write(within.querySelector("[data-settled]"), grouped.format(settled));
}

function showCampaign(news) {
  showProgress(document, news.audience, news.settled);
  for (const each of all("[data-count]")) {
    const count = news.counts[each.dataset.count];
    write(each, grouped.format(count));
    const row = each.closest("[data-reason]");
    if (row) row.hidden = count === 0;
  }
  for (const each of all("[data-share]")) {
    write(each, share(news.counts[each.dataset.share], news.audience));
  }
  for (const each of all("[data-note]")) write(each, news.notes[each.dataset.note] || "");
  for (const each of all("[data-state]")) write(each, news.state);
  const balance = document.querySelector("[data-balance]");
  write(balance, news.balance);
  balance.className = `balance ${news.balanced ? "good" : "bad"}`;
  const rate = news.throughput === null ? "–" : grouped.format(news.throughput);
  write(document.querySelector("[data-throughput]"), rate);
  for (const [name, depth] of Object.entries(news.queues || {})) {
    write(document.querySelector(`[data-ready="${CSS.escape(name)}"]`), grouped.format(depth.ready));
    write(document.querySelector(`[data-unacked="${CSS.escape(name)}"]`), grouped.format(depth.unacked));
  }
}

function showOverview(news) {
  const rows = new Map([...all("[data-campaign]")].map((row) => [row.dataset.campaign, row]));
  for (const [id, each] of Object.entries(news.campaigns)) {
    const row = rows.get(id);
    if (!row) {
      location.reload(); // a campaign has come up that this page has no row for
      return;
    }
    showProgress(row, each.audience, each.settled);
    write(row.querySelector("[data-share]"), share(each.settled, each.audience));
    write(row.querySelector("[data-state]"), each.state);
    write(row.querySelector("[data-attention]"), each.attention.join("; "));
  }
}

function listen(address) {
  let last = null;
  let silence = 0;
  const lost = () => showAge(last, "sendtrace does not answer; this page tries again.");
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(lost, SILENT_AFTER);
  };
  const source = new EventSource(address);
  source.onmessage = (event) => {
    heard();
    const news = JSON.parse(event.data);
    if (news === null) return; // nobody has read this campaign's numbers yet
    last = news.at;
    showAge(news.at, news.trouble && `The database is away: ${news.trouble}.`);
    if (news.counts) showCampaign(news);
    else showOverview(news);
  };
  source.onerror = () => {
    lost();
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(() => listen(address), AGAIN_AFTER);
    }
  };
}

async function showCharts(place) {
  if (document.hidden || place.querySelector("details[open]")) return;
  try {
    const answer = await fetch(place.dataset.charts);
    if (answer.ok) place.innerHTML = await answer.text();
  } catch {
    // The stream says that the server is away.
  }
}

showTimes();
const { events, again } = document.body.dataset;
if (events) listen(events);
if (again !== undefined) setTimeout(() => location.reload(), AGAIN_AFTER);
const charts = document.getElementById("charts");
if (charts) {
  showCharts(charts);
  setInterval(() => showCharts(charts), CHARTS_EVERY);
}
