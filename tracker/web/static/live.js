// Updates the numbers of a page, and shows times in the viewer's zone. The pages work without it.
"use strict";

const numberFormat = new Intl.NumberFormat("en-US");
const dateTimeFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const CHART_REFRESH_MS = 5000; // the server renders charts no more often
const RECONNECT_DELAY_MS = 3000;
const PAGE_REFRESH_MS = 3000;
const SILENCE_TIMEOUT_MS = 20000; // the server sends at least a comment every 15 s

function selectAll(selector, within = document) {
  return within.querySelectorAll(selector);
}

function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function showLocalTimes(within = document) {
  for (const time of selectAll("time[datetime]", within)) {
    setText(time, dateTimeFormat.format(new Date(time.dateTime)));
  }
}

function formatPercent(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)}\u00a0%` : "";
}

function makeTime(at) {
  const time = document.createElement("time");
  time.dateTime = at;
  time.title = `${at.slice(0, 19).replace("T", " ")} UTC`;
  time.textContent = dateTimeFormat.format(new Date(at));
  return time;
}

function showFreshness(readAt, error) {
  const banner = document.getElementById("freshness-banner");
  banner.hidden = !error;
  document.body.classList.toggle("stale", Boolean(error));
  setText(banner.querySelector("[data-error]"), error || "");
  if (readAt) {
    for (const element of selectAll("[data-read-at]")) element.replaceChildren(makeTime(readAt));
  }
}

let shownHealth = "";

function showHealth(html) {
  if (html === shownHealth) return; // a reader of the screen hears changes only
  shownHealth = html;
  const strip = document.getElementById("health");
  strip.innerHTML = html;
  showLocalTimes(strip);
}

function showProgress(within, audience, settled) {
  for (const bar of selectAll("[data-progress]", within)) {
    bar.max = audience || 1;
    bar.value = settled;
  }
  setText(within.querySelector("[data-audience]"), numberFormat.format(audience));
  setText(within.querySelector("[data-settled]"), numberFormat.format(settled));
}

function showState(element, state) {
  setText(element, state);
  element.dataset.state = state;
}

function showProblems(container, problems) {
  const banners = problems.map((problem) => {
    const banner = document.createElement("p");
    banner.className = "banner warn";
    banner.textContent = problem;
    return banner;
  });
  container.replaceChildren(...banners);
}

function showCampaign(update) {
  showProgress(document, update.audience, update.settled);
  for (const element of selectAll("[data-count]")) {
    const count = update.counts[element.dataset.count];
    setText(element, numberFormat.format(count));
    const row = element.closest("[data-hidden-at-zero]");
    if (row) row.hidden = count === 0;
  }
  for (const element of selectAll("[data-share]")) {
    setText(element, update.shares[element.dataset.share]);
  }
  for (const element of selectAll("[data-as-of]")) element.replaceChildren(makeTime(update.as_of));
  for (const element of selectAll("[data-note]")) setText(element, update.notes[element.dataset.note] || "");
  for (const element of selectAll("[data-state]")) showState(element, update.state);
  showProblems(document.querySelector("[data-problems]"), update.attention);
  const balance = document.querySelector("[data-balance]");
  setText(balance, update.balance);
  balance.className = `balance ${update.balanced ? "good" : "bad"}`;
  const throughput = update.throughput === null ? "–" : numberFormat.format(update.throughput);
  setText(document.querySelector("[data-throughput]"), throughput);
  for (const [name, depth] of Object.entries(update.queues || {})) {
    setText(document.querySelector(`[data-ready="${CSS.escape(name)}"]`), numberFormat.format(depth.ready));
    setText(document.querySelector(`[data-unacked="${CSS.escape(name)}"]`), numberFormat.format(depth.unacked));
  }
}

function showOverview(update) {
  const rows = new Map([...selectAll("[data-campaign]")].map((row) => [row.dataset.campaign, row]));
  for (const [id, campaign] of Object.entries(update.campaigns)) {
    const row = rows.get(id);
    if (!row) {
      location.reload(); // a new campaign, without a row on this page
      return;
    }
    showProgress(row, campaign.audience, campaign.settled);
    setText(row.querySelector("[data-share]"), formatPercent(campaign.settled, campaign.audience));
    setText(row.querySelector("[data-scheduled]"), numberFormat.format(campaign.scheduled));
    showState(row.querySelector("[data-state]"), campaign.state);
    setText(row.querySelector("[data-attention]"), campaign.attention.join("; "));
  }
}

function listen(address) {
  let lastReadAt = null;
  let silenceTimer = 0;
  const showDisconnected = () => showFreshness(lastReadAt, "The server is unavailable; this page reconnects.");
  const resetSilenceTimer = () => {
    clearTimeout(silenceTimer);
    silenceTimer = setTimeout(showDisconnected, SILENCE_TIMEOUT_MS);
  };
  const source = new EventSource(address);
  source.onmessage = (event) => {
    resetSilenceTimer();
    const update = JSON.parse(event.data);
    if (update === null) return; // the next snapshot includes this campaign
    lastReadAt = update.at;
    showFreshness(update.at, update.trouble && `Database unavailable: ${update.trouble}.`);
    showHealth(update.health);
    if (update.counts) showCampaign(update);
    else if (update.campaigns) showOverview(update);
  };
  source.onerror = () => {
    showDisconnected();
    if (source.readyState === EventSource.CLOSED) {
      source.close();
      setTimeout(() => listen(address), RECONNECT_DELAY_MS);
    }
  };
}

async function refreshCharts(container) {
  if (document.hidden || container.querySelector("details[open]")) return;
  try {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const response = await fetch(`${container.dataset.charts}?zone=${encodeURIComponent(zone)}`);
    if (response.ok) container.innerHTML = await response.text();
  } catch {
    // The event stream reports that the server is unavailable.
  }
}

// Replaces the content of a page by that of the server, unless somebody is at work in it.
async function refreshPage() {
  const main = document.getElementById("main");
  const isInUse = main.contains(document.activeElement) && document.activeElement !== main;
  if (document.hidden || isInUse || main.querySelector("details[open]") || String(getSelection())) return;
  try {
    const response = await fetch(location.href);
    if (!response.ok) return; // the numbers stay; the banner says as of when they are
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    main.innerHTML = page.getElementById("main").innerHTML;
    showLocalTimes(main);
  } catch {
    // The event stream reports that the server is unavailable.
  }
}

showLocalTimes();
const { events, reload, refresh } = document.body.dataset;
if (refresh !== undefined) setInterval(refreshPage, PAGE_REFRESH_MS);
if (events) listen(events);
if (reload !== undefined) setTimeout(() => location.reload(), RECONNECT_DELAY_MS);
const charts = document.getElementById("charts");
if (charts) {
  refreshCharts(charts);
  setInterval(() => refreshCharts(charts), CHART_REFRESH_MS);
}
