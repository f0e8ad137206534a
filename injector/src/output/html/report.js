'use strict';
(() => {
  const model = JSON.parse(document.getElementById('model').textContent);
  /** None if only maps and locks were traced. */
  const summary = model.summary;

  // ---- Elements. Text goes in as text, never as HTML: names are chosen by strangers.

  function put(element, children) {
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      element.append(child instanceof Node ? child : String(child));
    }
    return element;
  }
  function el(name, attributes, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return put(element, children);
  }
  function svg(name, attributes, ...children) {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return put(element, children);
  }
  const hint = (text) => svg('title', {}, text);

  // ---- Numbers as people read them.

  function three(value) {
    return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  }
  function time(ns) {
    if (ns >= 3.6e12) return `${Math.floor(ns / 3.6e12)} h ${Math.floor(ns / 6e10) % 60} min`;
    if (ns >= 6e10) return `${Math.floor(ns / 6e10)} min ${Math.floor(ns / 1e9) % 60} s`;
    for (const [size, unit] of [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs']]) {
      if (ns >= size * 0.9995) return `${three(ns / size)} ${unit}`;
    }
    return `${Math.round(ns)} ns`;
  }
  const count = (number) => Math.round(number).toLocaleString('en').replaceAll(',', '\u202f');
  function bytes(number) {
    let unit = 'B';
    for (const next of ['KiB', 'MiB', 'GiB', 'TiB']) {
      if (number < 1024) break;
      number /= 1024;
      unit = next;
    }
    return `${three(number)} ${unit}`;
  }
  function percent(part, whole) {
    if (!whole) return '–';
    const share = 100 * part / whole;
    if (part > 0 && share < 0.1) return '< 0.1 %';
    if (part < whole && share > 99.9) return '> 99.9 %';
    return `${Number(share.toFixed(1))} %`;
  }
  const plural = (number, one, more) => `${count(number)} ${number === 1 ? one : more}`;

  function at(pointer) {
    return pointer.split('/').slice(1).reduce((value, key) => value?.[key], model);
  }
  /** A number of the model, which says which one it is. */
  function figure(pointer, format) {
    const value = at(pointer);
    if (value === undefined) return '–';
    return el('data', { value, 'data-of': pointer }, format(value));
  }

  // ---- Parts of the page.

  const main = document.getElementById('main');
  const parts = document.getElementById('parts');
  function part(id, title, ...children) {
    main.append(el('section', { id, 'aria-labelledby': `${id}-title` },
      el('h2', { id: `${id}-title`, tabindex: '-1' }, title), children));
    parts.append(el('li', {}, el('a', { href: `#${id}` }, title)));
  }
  const paragraphs = (texts) => texts.map((text) => el('p', {}, text));
  function table(caption, heads, rows, kinds) {
    const kind = (index) => kinds[index] ? { class: kinds[index] } : {};
    return el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': caption },
      el('table', {},
        el('caption', {}, caption),
        el('thead', {}, el('tr', {}, heads.map((head, index) => el('th', { scope: 'col', ...kind(index) }, head)))),
        el('tbody', {}, rows.map((row) => el('tr', {}, row.map((cell, index) =>
          index === 0 ? el('th', { scope: 'row', ...kind(0) }, cell) : el('td', kind(index), cell)))))));
  }
  const more = (title, ...children) => el('details', {}, el('summary', {}, title), children);
  function legend(items) {
    return el('ul', { class: 'legend' }, items.map(([mark, text]) => el('li', {},
      svg('svg', { width: 16, height: 12, 'aria-hidden': 'true' }, typeof mark === 'string'
        ? svg('rect', { class: mark, width: 16, height: 12, rx: 2 }) : mark), text)));
  }

  // ---- Pictures: drawn for the width that there is, and again when that changes.

  const drawings = [];
  const drawAll = () => drawings.forEach((draw) => draw());
  function picture(caption, label, description, draw, ...after) {
    const place = el('div', {});
    const id = `picture-${drawings.length}`;
    const element = el('figure', {}, el('figcaption', {}, caption), place, after);
    drawings.push(() => {
      const width = Math.floor(place.clientWidth);
      if (width === Number(place.dataset.width) || width < 100) return;
      place.dataset.width = width;
      const image = draw(width, id);
      image.setAttribute('role', 'img');
      image.setAttribute('aria-labelledby', `${id}-title ${id}-description`);
      image.prepend(svg('title', { id: `${id}-title` }, label), svg('desc', { id: `${id}-description` }, description));
      place.replaceChildren(image);
    });
    return element;
  }
  function canvas(width, height) {
    return svg('svg', { width, height, viewBox: `0 0 ${width} ${height}` });
  }
  function text(x, y, words, attributes) {
    return svg('text', { x, y, ...attributes }, words);
  }
  function nice(span, ticks) {
    const rough = span / Math.max(1, ticks);
    const size = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((factor) => factor * size).find((step) => step >= rough) || 10 * size;
  }
  /** Ticks and a title below; times in nanoseconds from `from` on, shown from `zero` on. */
  function timeAxis(image, x, left, right, y, from, to, zero, title) {
    const [size, unit] = to - zero >= 1e9 ? [1e9, 's'] : to - zero >= 1e6 ? [1e6, 'ms'] : [1e3, 'µs'];
    const step = nice((to - from) / size, (right - left) / 90) * size;
    image.append(svg('line', { class: 'axis', x1: left, x2: right, y1: y, y2: y }));
    for (let tick = Math.ceil((from - zero) / step) * step + zero; tick <= to; tick += step) {
      const label = Number(((tick - zero) / size).toPrecision(6));
      image.append(svg('line', { class: 'axis', x1: x(tick), x2: x(tick), y1: y, y2: y + 4 }),
        text(x(tick), y + 16, label, { 'text-anchor': 'middle' }));
    }
    image.append(text((left + right) / 2, y + 32, `${title} (${unit})`, { 'text-anchor': 'middle' }));
  }

  const LEVELS = 5;
  /** The least count of each shade. */
  function shades(most) {
    const all = [];
    for (let level = 0; level < LEVELS; level++) {
      const least = Math.max(level + 1, Math.round(most ** (level / LEVELS)));
      if (least <= most) all.push(least);
    }
    return all;
  }
  function heat(kind, range) {
    const map = model.heat;
    const most = kind.cells.reduce((found, cell) => Math.max(found, cell[2]), 1);
    const least = shades(most);
    const first = LEVELS - least.length;
    const [low, high] = range;
    const draw = (width) => {
      const left = 62, right = width - 12, row = 14, top = 8;
      const bottom = top + (high - low + 1) * row;
      const image = canvas(width, bottom + 40);
      const end = Math.max(model.elapsed_ns, 1);
      const x = (ns) => left + (right - left) * ns / end;
      const y = (index) => bottom - (index - low) * row;
      for (let index = low; index <= high + 1; index++) {
        image.append(svg('line', { class: 'grid', x1: left, x2: right, y1: y(index), y2: y(index) }));
        if (index < map.rows.length && (high - low < 9 || index % 3 === 1)) {
          image.append(text(left - 8, y(index) + 4, time(map.rows[index]), { 'text-anchor': 'end' }));
        }
      }
      for (const [column, index, sends] of kind.cells) {
        const from = x(Math.min(column * map.column_ns, end));
        const to = x(Math.min((column + 1) * map.column_ns, end));
        const shade = first + least.findLastIndex((bound) => sends >= bound);
        image.append(svg('rect', { class: `h${shade}`, x: from, width: Math.max(1, to - from - 0.5), y: y(index + 1), height: row - 0.5 },
          hint(`${plural(sends, 'send', 'sends')} of ${time(map.rows[index])} and more, ${time(column * map.column_ns)} after the start`)));
      }
      timeAxis(image, x, left, right, bottom + 2, 0, end, 0, 'since the start of the run');
      return image;
    };
    const marks = least.map((bound, index) => {
      const next = least[index + 1] ? least[index + 1] - 1 : most;
      return [`h${first + index}`, `${count(bound)}${next > bound ? `–${count(next)}` : ''}${index === least.length - 1 ? ' sends' : ''}`];
    });
    return [draw, legend(marks)];
  }

  const KINDS = {
    asked: ['Asked', 'delays that the rules decided, given or not'],
    delivered: ['Delivered', 'delays that were measured'],
    natural: ['Natural', 'time that sends took by themselves, without the delay'],
  };
  function heats() {
    const map = model.heat;
    const ranges = {};
    for (const kind of map.kinds) {
      const rows = kind.cells.map((cell) => cell[1]);
      if (rows.length) ranges[kind.name] = [Math.min(...rows), Math.max(...rows)];
    }
    // What was asked and what was delivered are compared, so they have the same scale.
    if (ranges.asked && ranges.delivered) {
      const both = [...ranges.asked, ...ranges.delivered];
      ranges.asked = ranges.delivered = [Math.min(...both), Math.max(...both)];
    }
    return map.kinds.map((kind) => {
      const [name, meaning] = KINDS[kind.name];
      if (!kind.cells.length) return el('p', { class: 'muted' }, `${name}: no send had ${kind.name === 'natural' ? 'a measured time' : 'a delay'}.`);
      const [draw, marks] = heat(kind, ranges[kind.name]);
      const sends = kind.cells.reduce((sum, cell) => sum + cell[2], 0);
      return picture([el('b', {}, name), `: ${meaning}. Each cell: how many sends in ${time(map.column_ns)} took that long.`],
        `Heat map: ${meaning}, over time`, `${count(sends)} sends, from ${time(map.rows[ranges[kind.name][0]])} on; the table of distributions has the figures.`, draw, marks);
    });
  }

  const DISTRIBUTIONS = [
    ['asked_delay', 'Asked', 'f-asked'],
    ['delivered_delay', 'Delivered', 'f-delivered'],
    ['natural_injected', 'Natural, of delayed sends', 'f-natural'],
    ['natural_baseline', 'Natural, of all others', 'f-natural'],
  ];
  function distributions() {
    const shown = DISTRIBUTIONS.filter(([name]) => summary[name].count > 0);
    if (!shown.length) return el('p', { class: 'muted' }, 'No send has a measured time.');
    const from = (row) => Math.max(row.from_ns, 0.5);
    const below = (row) => row.below_ns || 2 * from(row);
    const rows = shown.flatMap(([name]) => summary[name].histogram);
    const low = Math.log10(Math.min(...rows.map(from))), high = Math.log10(Math.max(...rows.map(below)));
    const draw = (width) => {
      const narrow = width < 560;
      const left = 6, right = width - 6, band = 56, gap = narrow ? 42 : 26;
      const bottom = shown.length * (band + gap);
      const image = canvas(width, bottom + 40);
      const x = (ns) => left + (right - left) * (Math.log10(Math.max(ns, 0.5)) - low) / Math.max(high - low, 0.1);
      for (let decade = Math.ceil(low - 1e-9); decade <= high + 1e-9; decade++) {
        const here = x(10 ** decade);
        image.append(svg('line', { class: 'grid', x1: here, x2: here, y1: gap, y2: bottom }),
          text(Math.min(Math.max(here, left + 18), right - 22), bottom + 16, time(10 ** decade), { 'text-anchor': 'middle' }));
      }
      shown.forEach(([name, label, colour], index) => {
        const of = summary[name], base = (index + 1) * (band + gap);
        const most = Math.max(...of.histogram.map((row) => row.count));
        image.append(text(left, base - band - (narrow ? 22 : 8), label, { class: 'name' }),
          text(narrow ? left : right, base - band - 8, `${plural(of.count, 'send', 'sends')}, median ${time(of.p50_ns)}, 99 % ${time(of.p99_ns)}`, { 'text-anchor': narrow ? 'start' : 'end' }),
          svg('line', { class: 'axis', x1: left, x2: right, y1: base, y2: base }));
        for (const row of of.histogram) {
          const height = Math.max(1.5, (band - 2) * row.count / most);
          image.append(svg('rect', { class: colour, x: x(from(row)) + 0.5, width: Math.max(1, x(below(row)) - x(from(row)) - 1), y: base - height, height },
            hint(`${label}: ${plural(row.count, 'send', 'sends')} from ${time(row.from_ns)} to ${time(below(row))}`)));
        }
        for (const quantile of [of.p50_ns, of.p99_ns]) {
          image.append(svg('line', { class: 'mark', x1: x(quantile), x2: x(quantile), y1: base - band, y2: base }));
        }
      });
      image.append(text((left + right) / 2, bottom + 34, 'time of a send, logarithmic', { 'text-anchor': 'middle' }));
      return image;
    };
    return picture([el('b', {}, 'Distributions'), ': each as high as its own fullest row. Dashed: median and 99 %.'],
      'Distributions of delays and of the sends themselves', 'The table below has the figures.', draw);
  }
  function distributionTable() {
    const all = [...DISTRIBUTIONS.slice(0, 2), ['delay_error', 'Off by: delivered against asked'], ...DISTRIBUTIONS.slice(2)];
    const cell = (name, field) => figure(`/summary/${name}/${field}`, field === 'count' ? count : time);
    return table('Times of sends', ['', 'sends', 'least', 'median', '90 %', '99 %', 'longest'],
      all.map(([name, label]) => [label, ...['count', 'min_ns', 'p50_ns', 'p90_ns', 'p99_ns', 'max_ns'].map((field) => cell(name, field))]), ['text']);
  }

  // ---- Words first.

  const GRADES = { fatal: 'fatal', bad: 'bad', note: 'to know' };
  function finding(one) {
    return el('li', { class: `finding ${one.grade}` },
      el('div', { class: 'grade' }, el('b', {}, GRADES[one.grade]), one.confidence ? `, ${one.confidence} confidence` : '', ' · ',
        el('a', { href: `#${one.part}` }, 'the rest')),
      el('h3', {}, one.title),
      one.evidence.length > 0 && el('ul', { class: 'small' }, one.evidence.map((line) => el('li', {}, line))),
      one.remedy && el('p', {}, el('b', {}, 'What would help: '), one.remedy),
      one.why.length > 0 && more('How sure that is', el('ul', { class: 'small' }, one.why.map((line) => el('li', {}, line)))));
  }

  const started = model.started_unix_ms ? `${new Date(model.started_unix_ms).toISOString().slice(0, 19).replace('T', ' ')} UTC, ` : '';
  document.getElementById('when').textContent = `${started}${time(model.elapsed_ns)}, ${model.host}`;

  part('words', 'In words',
    el('h3', {}, 'What was asked'), paragraphs(model.asked), summary && [
      el('ul', { class: 'rules' }, summary.rules.map((rule) => el('li', {}, rule))),
      el('p', { class: 'muted small' }, `Seed ${model.seed}: with it the same calls get the same decisions again. Hook: ${summary.hook}. Engine: ${summary.engine}.`),
      el('h3', {}, 'What was delivered'), paragraphs(model.delivered)],
    el('h3', {}, 'What came of it, worst first'),
    model.findings.length
      ? el('ol', { class: 'findings' }, model.findings.map(finding))
      : el('p', {}, 'Nothing that calls for attention was found.'),
    model.more_findings > 0 && el('p', { class: 'muted' }, `${plural(model.more_findings, 'finding is', 'findings are')} not told here; JSON has more.`));

  // ---- Sends.

  const counts = '/summary/sends';
  function tile(name, value, small) {
    return el('div', { class: 'tile' }, el('dt', {}, name), el('dd', {}, value, small && el('small', {}, small)));
  }
  const shadow = summary?.mode === 'shadow';
  const sends = summary?.sends;
  function whoSent() {
    const number = (pointer) => (field, format = count) => figure(`${pointer}/sends/${field}`, format);
    const row = (name, pointer) => {
      const of = number(pointer);
      return [name, of('count'), of('matched'), of(shadow ? 'shadowed' : 'delayed'), of('flagged'), of('failed'), of('errors'),
        of(shadow ? 'asked_ns' : 'delivered_ns', time)];
    };
    const heads = ['', 'sends', 'matched', shadow ? 'shadowed' : 'delayed', 'flagged', 'failed', 'errors', shadow ? 'asked in all' : 'delay in all'];
    const shown = summary.by_process.slice(0, 20);
    const rows = shown.map((process, index) => row(`${process.comm} (${process.pid})`, `/summary/by_process/${index}`));
    summary.by_protocol.forEach((protocol, index) => rows.push(row(protocol.protocol, `/summary/by_protocol/${index}`)));
    if (summary.rules.length > 1) summary.by_rule.forEach((rule, index) => rows.push(row(`rule ${rule.rule ?? '?'}`, `/summary/by_rule/${index}`)));
    const left = summary.by_process.length - shown.length;
    return table(`Who sent, by process${left > 0 ? ` (${plural(left, 'more is', 'more are')} in the JSON)` : ''}, protocol${summary.rules.length > 1 ? ' and rule' : ''}`,
      heads, rows, ['text']);
  }
  function worst() {
    const did = (send) => ['failed', 'signalled', 'flagged', 'capped', 'shortened'].filter((name) => send[name]).join(', ') || send.verdict;
    const time_ = (index, field) => figure(`/summary/worst/${index}/${field}`, time);
    return table('The sends that took longest', ['after the start', 'who', 'to', 'asked', 'delivered', 'itself', 'what'],
      summary.worst.map((send, index) => [send.start_ns === undefined ? '–' : time(model.worst_starts_ns[index]),
        `${send.comm} (${send.tid})${send.goroutine ? `, goroutine ${send.goroutine}` : ''}`, `${send.protocol} ${send.peer || ''}`,
        time_(index, 'asked_ns'), time_(index, 'delivered_ns'), time_(index, 'natural_ns'), did(send)]),
      ['', 'text', 'text', '', '', '', 'text']);
  }
  if (sends?.count > 0) {
    part('sends', 'Sends',
      el('dl', { class: 'tiles' },
        tile('with a record', figure(`${counts}/count`, count), `${count(summary.counters.seen)} seen`),
        tile('chosen', figure(`${counts}/chosen`, count), `${percent(sends.chosen, sends.matched)} of matched`),
        shadow ? tile('would be delayed', figure(`${counts}/would_delay`, count))
          : tile('delayed', figure(`${counts}/delayed`, count), `${percent(sends.delayed, sends.chosen)} of chosen`),
        tile('delay asked', figure(`${counts}/asked_ns`, time)),
        tile('delay delivered', figure(`${counts}/delivered_ns`, time)),
        tile('flagged', figure(`${counts}/flagged`, count)),
        tile('failed', figure(`${counts}/failed`, count)),
        tile('bytes sent', figure(`${counts}/sent_bytes`, bytes))),
      el('h3', {}, 'Over time'), heats(),
      el('h3', {}, 'How long'), distributions(), distributionTable(),
      more('Who sent', whoSent()),
      summary.worst.length > 0 && more('The sends that took longest', worst()),
      summary.errnos.length > 0 && more('Errors', table('How often each error was returned', ['error', 'by itself', 'injected'],
        summary.errnos.map((errno, index) => [errno.errno_name || errno.errno || 'no errno', figure(`/summary/errnos/${index}/own`, count),
          figure(`/summary/errnos/${index}/injected`, count)]), ['text'])));
  }

  // ---- Locks and maps.

  const where = (place) => place ? `${place.function} (${base(place.file)}:${place.line})` : 'a place that is not known';
  const base = (file) => file.slice(file.lastIndexOf('/') + 1);
  function named(about) {
    if (about.name) return about.name;
    if (about.first_use) return `${about.type_name || ''} of ${where(about.first_use)}`.trim();
    return `${about.type_name || ''} at ${about.address}`.trim();
  }
  const CAUSES = [['f-injected', 'injected delay'], ['f-sending', 'the send itself'], ['f-pausing', 'no goroutine could run'], ['f-no-cpu', 'the holder had no CPU'], ['f-unexplained', 'not explained by these']];
  function waiting(program) {
    if (!program.waiting) return null;
    const { column_ns, columns } = program.waiting;
    const length = (index) => Math.min(column_ns, model.elapsed_ns - index * column_ns);
    const most = Math.max(...columns.map((column, index) => length(index) > 0 ? column.reduce((sum, ns) => sum + ns, 0) / length(index) : 0), 0);
    if (most === 0) return null;
    const draw = (width) => {
      const left = 44, right = width - 12, top = 10, bottom = 150, end = Math.max(model.elapsed_ns, 1);
      const image = canvas(width, bottom + 40);
      const x = (ns) => left + (right - left) * ns / end;
      const step = nice(most, 4);
      const y = (value) => bottom - (bottom - top) * value / (Math.ceil(most / step) * step);
      for (let tick = 0; tick <= Math.ceil(most / step) * step + step / 2; tick += step) {
        image.append(svg('line', { class: 'grid', x1: left, x2: right, y1: y(tick), y2: y(tick) }),
          text(left - 6, y(tick) + 4, Number(tick.toPrecision(3)), { 'text-anchor': 'end' }));
      }
      columns.forEach((column, index) => {
        if (index * column_ns >= end) return;
        const from = x(Math.min(index * column_ns, end)), to = x(Math.min((index + 1) * column_ns, end));
        let sum = 0;
        column.forEach((ns, cause) => {
          if (ns === 0) return;
          const value = ns / Math.min(column_ns, end - index * column_ns);
          image.append(svg('rect', { class: CAUSES[cause][0], x: from, width: Math.max(1, to - from - 0.5), y: y(sum + value), height: Math.max(0.5, y(sum) - y(sum + value)) },
            hint(`${time(index * column_ns)} after the start: ${three(value)} goroutines waited on average, ${CAUSES[cause][1]}`)));
          sum += value;
        });
      });
      timeAxis(image, x, left, right, bottom, 0, end, 0, 'since the start of the run');
      return image;
    };
    return picture([el('b', {}, 'Goroutines that waited for locks'), `, on average in each ${time(column_ns)}, by what that was for.`],
      'Goroutines that waited for locks, over time', `At most ${three(most)} at once on average.`, draw, legend(CAUSES));
  }

  function arrow(image, x1, y1, x2, y2) {
    const turn = y2 > y1 ? 1 : -1;
    const tip = y2 - turn * 6;
    image.append(svg('path', { class: 'arrow', d: `M${x1} ${y1} C${x1} ${(y1 + tip) / 2} ${x2} ${(y1 + tip) / 2} ${x2} ${tip}` }),
      svg('path', { class: 'arrow-head', d: `M${x2} ${y2} l-4 ${-turn * 7} h8 z` }));
  }
  function moment(program, one, index) {
    const from = one.from_ns, to = Math.max(one.to_ns, from + 1);
    const describe = {
      send: (bar) => `send${bar.peer ? ` to ${bar.peer}` : ''}${bar.delay_ns ? `, ${time(bar.delay_ns)} of it injected` : ''}`,
      hold: (bar) => `had ${bar.lock}${bar.whole ? '' : ', since before'}`,
      wait: (bar) => `waited for ${bar.lock}${bar.over ? '' : ', and still did at the end'}`,
    };
    const draw = (width, id) => {
      const narrow = width < 620;
      const left = narrow ? 6 : 196, right = width - 10, row = narrow ? 52 : 38, top = 6;
      const bottom = top + one.lanes.length * row;
      const image = canvas(width, bottom + 42);
      const x = (ns) => left + (right - left) * (Math.min(Math.max(ns, from), to) - from) / (to - from);
      const middle = (lane) => top + lane * row + (narrow ? 34 : row / 2);
      image.append(svg('defs', {}, svg('pattern', { id: `${id}-hatch`, width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
        svg('line', { class: 's-wait', x1: 0, x2: 0, y1: 0, y2: 6, 'stroke-width': 3 }))));
      for (const pause of one.pauses) {
        image.append(svg('rect', { class: 'pause', x: x(pause[0]), width: Math.max(1, x(pause[1]) - x(pause[0])), y: top, height: bottom - top }, hint('no goroutine ran: garbage collection')));
      }
      one.lanes.forEach((lane, number) => {
        const y = middle(number);
        image.append(svg('line', { class: 'grid', x1: left, x2: right, y1: y, y2: y }));
        const name = `goroutine ${lane.goroutine}`, start = lane.started_as ? base(lane.started_as) : '';
        if (narrow) image.append(text(left, y - 18, `${name} ${start}`, { class: 'name' }));
        else {
          image.append(text(0, y + (start ? -2 : 4), name, { class: 'name' }));
          if (start) image.append(text(0, y + 12, start.length > 30 ? `${start.slice(0, 29)}…` : start));
        }
        for (const bar of lane.bars) {
          const x1 = x(bar.start_ns), length = Math.max(1.5, x(bar.end_ns) - x1);
          const words = hint(`${name}: ${describe[bar.kind](bar)}, ${time(bar.end_ns - bar.start_ns)}${bar.place ? `, in ${where(bar.place)}` : ''}`);
          if (bar.kind === 'hold') {
            image.append(svg('rect', { class: 'hold', x: x1, width: length, y: y - 13, height: 26, rx: 3 }, words));
          } else if (bar.kind === 'wait') {
            image.append(svg('rect', { class: 'wait', fill: `url(#${id}-hatch)`, x: x1, width: length, y: y - 6, height: 12 }, words));
          } else {
            const delay = x(Math.min(bar.start_ns + bar.delay_ns, bar.end_ns)) - x1;
            const first = bar.after ? length - delay : delay;
            const colours = bar.after ? ['f-natural', 'f-injected'] : ['f-injected', 'f-natural'];
            image.append(svg('g', {}, words,
              first > 0 && svg('rect', { class: colours[0], x: x1, width: first, y: y - 8, height: 16 }),
              length - first > 0 && svg('rect', { class: colours[1], x: x1 + first, width: Math.max(1, length - first), y: y - 8, height: 16 })));
            if (delay > 76) {
              image.append(text((bar.after ? x1 + first : x1) + 6, y + 4, `delay ${time(bar.delay_ns)}`, { class: 'in' }));
            }
          }
        }
      });
      for (const one_ of one.arrows) {
        const down = one_.to > one_.from ? 1 : -1;
        arrow(image, x(one_.released_ns), middle(one_.from) + down * 13, x(one_.got_ns), middle(one_.to) - down * 7);
      }
      const short = to - from;
      timeAxis(image, x, left, right, bottom + 2, from, to, from, `from ${time(from)} after the start of the run on`, short);
      return image;
    };
    const rows = one.lanes.flatMap((lane) => lane.bars.map((bar) => [bar, lane])).sort(([a], [b]) => a.start_ns - b.start_ns);
    const bars = table('What is drawn', ['after the start', 'for', 'goroutine', 'what', 'where'], rows.map(([bar, lane]) =>
      [time(bar.start_ns), time(bar.end_ns - bar.start_ns), lane.goroutine, describe[bar.kind](bar), bar.place ? where(bar.place) : '–']), ['', '', '', 'wide', 'wide']);
    const left = one.not_drawn > 0 ? el('p', { class: 'muted small' }, `Not drawn: ${plural(one.not_drawn, 'more goroutine', 'more goroutines')} that waited for the same lock meanwhile.`) : null;
    return el('div', { class: 'moment' }, el('h4', {}, `${index + 1}. ${one.title}`), paragraphs(one.words),
      picture([], `Time line of goroutines: ${one.title}`, one.words.join(' '), draw, legend([
        ['f-injected', 'injected delay of a send'], ['f-natural', 'the send itself'], ['hold', 'had the lock'],
        [svg('rect', { width: 16, height: 12, class: 'wait', fill: 'none', 'stroke-dasharray': '2 2' }), 'waited (hatched)'],
        [svg('path', { class: 'arrow', d: 'M1 6 H14 M10 2 L14 6 L10 10' }), 'released to']])),
      left, more('The same as a table', bars));
  }

  /** Locks in the table that is not folded. */
  const LOCKS = 5;
  function program(one, index) {
    const report = one.report, at_ = `/programs/${index}/report`;
    const cell = (pointer, format = count) => figure(`${at_}/${pointer}`, format);
    const blame = new Map(report.findings.filter((it) => it.claim === 'contention').map((it) =>
      [it.about.address, Object.fromEntries(it.measured.map((number) => [number.figure, number.value]))]));
    const cause = (lock) => {
      const of = blame.get(lock.about.address);
      if (!of || of.injected_ns === undefined) return '–';
      const whole = of.injected_ns + of.sending_ns + of.pausing_ns + (of.no_cpu_ns ?? 0) + of.unexplained_ns;
      return [`${percent(of.injected_ns, whole)} delayed`, `${percent(of.sending_ns, whole)} sending`].map((line) => el('div', {}, line));
    };
    const who = (parties) => parties.length ? where(parties[0].place) + (parties.length > 1 ? `, +${parties.length - 1}` : '') : 'not seen';
    const lockTable = (caption, locks, first) => locks.length > 0 && table(caption, ['lock', 'waits', 'in all', 'median', '99 %', 'longest', 'the holder was', 'where'],
      locks.map((lock, index) => {
        const row = `locks/${first + index}`;
        return [[el('span', { class: 'code' }, named(lock.about)), el('small', {}, ` ${lock.about.what}`)], cell(`${row}/waits/count`), cell(`${row}/waits/total_ns`, time),
          cell(`${row}/p50_ns`, time), cell(`${row}/p99_ns`, time), cell(`${row}/waits/max_ns`, time), cause(lock),
          [el('div', {}, `held in ${who(lock.holders)}`), el('div', {}, `waited in ${who(lock.waiters)}`)]];
      }), ['wide', '', '', '', '', '', 'text', 'wide']);
    const name = el('span', { class: 'code' }, one.exe || `process ${one.pid}`);
    const sends_ = report.sends;
    return [
      el('h3', {}, 'Process ', one.pid, ': ', name, one.go_version ? `, ${one.go_version}` : ''),
      sends_ && el('dl', { class: 'tiles' },
        tile('waited for locks', cell('sends/waited_ns', time)),
        tile('in injected delays', cell('sends/waited_injected_ns', time), `${percent(sends_.waited_injected_ns, sends_.waited_ns)} of it`),
        tile('in sends themselves', cell('sends/waited_sending_ns', time), `${percent(sends_.waited_sending_ns, sends_.waited_ns)} of it`),
        sends_.waited_pausing_ns > 0 && tile('while no goroutine could run', cell('sends/waited_pausing_ns', time), `${percent(sends_.waited_pausing_ns, sends_.waited_ns)} of it`),
        sends_.waited_no_cpu_ns > 0 && tile('while the holder had no CPU', cell('sends/waited_no_cpu_ns', time), `${percent(sends_.waited_no_cpu_ns, sends_.waited_ns)} of it`),
        tile('not explained', cell('sends/waited_unexplained_ns', time), `${percent(sends_.waited_unexplained_ns, sends_.waited_ns)} of it`),
        tile('delay injected', cell('sends/injected_ns', time), sends_.injected_ns ? `1 s of it became ${three(sends_.waited_injected_ns / sends_.injected_ns)} s of waiting` : null)),
      waiting(one),
      lockTable('Locks that were waited for, longest first', report.locks.slice(0, LOCKS), 0),
      report.locks.length > LOCKS && more(plural(report.locks.length - LOCKS, 'more lock', 'more locks'), lockTable('Locks that were waited for less', report.locks.slice(LOCKS), LOCKS)),
      one.moments.length > 0 && el('div', { class: 'moments' }, el('h3', {}, 'The worst moments'), el('p', { class: 'muted small' }, one.chosen_from), one.moments.map((it, number) => moment(one, it, number))),
      report.maps.length > 0 && more('Maps', table('Maps, those with contention and risk first', ['map', 'guarded by', 'reads', 'writes', 'iterations', 'growths', 'goroutines', 'waited', 'risk'],
        report.maps.map((map, row) => [el('span', { class: 'code' }, `${named(map.about)}${map.about.name && map.about.type_name ? ` ${map.about.type_name}` : ''}`),
          map.guard ? `${map.guard.name || map.guard.lock_kind || 'a lock'} (${map.guard.confidence} confidence)` : 'no lock seen',
          cell(`maps/${row}/operations/reads`), count(map.operations.assigns + map.operations.deletes + map.operations.clears), cell(`maps/${row}/operations/iterations`),
          cell(`maps/${row}/operations/growths`), cell(`maps/${row}/goroutines`), cell(`maps/${row}/waits/total_ns`, time),
          map.risk ? `${map.risk.claim.replaceAll('_', ' ')} (${map.risk.confidence} confidence)` : '–']),
        ['wide', 'wide', '', '', '', '', '', '', 'text'])),
      report.sync_maps.length > 0 && more('sync.Maps', table('sync.Maps', ['sync.Map', 'loads', 'stores', 'deletes', 'ranges', 'changed in ranges', 'waited'],
        report.sync_maps.map((map, row) => [el('span', { class: 'code' }, named(map.about)), ...['loads', 'stores', 'deletes', 'ranges', 'ranges_disturbed'].map((field) => cell(`sync_maps/${row}/${field}`)),
          cell(`sync_maps/${row}/waits/total_ns`, time)]), ['wide'])),
      report.arrangements.length > 1 && more('Waiting by how maps are guarded', table('Waiting by how maps are guarded', ['', 'maps', 'locks', 'waits', 'in all', 'for each operation'],
        report.arrangements.map((way, row) => [way.name, cell(`arrangements/${row}/maps_count`), cell(`arrangements/${row}/locks_count`), cell(`arrangements/${row}/waits/count`),
          cell(`arrangements/${row}/waits/total_ns`, time), way.wait_ns_per_operation === undefined ? 'not seen' : time(way.wait_ns_per_operation)]), ['text'])),
      report.collections.count > 0 && el('p', { class: 'small' }, 'Garbage was collected ', cell('collections/count'), ' times (', cell('collections/total_ns', time), '); the whole program was stopped ',
        cell('pauses/count'), ' times (', cell('pauses/total_ns', time), ', at most ', cell('pauses/max_ns', time), ').'),
    ];
  }
  if (model.programs.length) {
    part('locks', 'Locks and maps', model.programs.map(program),
      model.more_programs > 0 && el('p', { class: 'muted' }, `${plural(model.more_programs, 'program is', 'programs are')} not told here; JSON has all.`));
  }

  // ---- Fatal errors.

  function side(title, of) {
    const did = of.operation ? `${of.operation.replaceAll('_', ' ')}${of.age_ns === undefined ? ', by its stack' : `, begun ${time(of.age_ns)} before`}` : '';
    const library = /^(runtime|internal\/runtime|sync|internal\/sync)[./]/;
    const own = of.stack.findIndex((frame) => !library.test(frame.function));
    return el('div', { class: 'side' }, el('h4', {}, title), el('p', {}, `goroutine ${of.goroutine} (thread ${of.tid})${did ? `: ${did}` : ''}`),
      el('ol', { class: 'stack', 'aria-label': `Stack, innermost first: ${title}` }, of.stack.length
        ? of.stack.map((frame, index) => el('li', index === own ? { class: 'own' } : {}, el('span', { class: 'code' }, frame.function), el('small', { class: 'code' }, `${frame.file}:${frame.line || '?'}`)))
        : of.addresses.map((address) => el('li', {}, el('span', { class: 'code' }, address)))),
      of.created_by && el('p', { class: 'small' }, 'created by ', el('span', { class: 'code' }, where(of.created_by)), of.created_by.goroutine ? ` in goroutine ${of.created_by.goroutine}` : ''));
  }
  /** Addresses and flags in hexadecimal, as in the text. */
  const field = (one) => `${one.name.replaceAll('_', ' ')} ${/^(flags|buckets|old_buckets|directory)$/.test(one.name) ? `0x${one.value.toString(16)}` : one.value}`;
  function fatal(report) {
    const map = report.map;
    return [
      el('h3', {}, `Process ${report.pid}: ${report.message}`), el('p', { class: 'small' }, report.recover),
      el('div', { class: 'sides' }, side('Found by', report.victim),
        report.other ? side('Ran into', report.other) : el('div', { class: 'side' }, el('h4', {}, 'Ran into'), el('p', {}, `not known${report.no_other ? `: ${report.no_other}` : ''}`))),
      report.confidence && el('p', { class: 'small' }, `${report.confidence} confidence: ${(report.because || []).join('; ')}${report.doubts ? `. In doubt: ${report.doubts.join('; ')}` : ''}`),
      map && el('p', { class: 'small' }, 'The map: ', el('span', { class: 'code' }, `${map.type_name || map.map_type || ''} at ${map.address}`),
        map.writing ? ', being written to' : '', map.header.length ? `; ${map.header.map(field).join(', ')}` : ''),
      report.remedy && el('p', {}, el('b', {}, 'What would help: '), report.remedy),
      report.history && more('What was done with the map before', table('Operations on the map, in order', ['before', 'goroutine', 'operation', 'where'],
        report.history.map((past) => [time(past.age_ns), past.goroutine, past.operation.replaceAll('_', ' '), past.caller ? where(past.caller) : '–']), ['', '', 'text', 'wide'])),
    ];
  }
  if (model.fatals.length) {
    part('fatal', 'Fatal errors', model.fatals.map(fatal),
      model.more_fatals > 0 && el('p', { class: 'muted' }, `${plural(model.more_fatals, 'fatal error is', 'fatal errors are')} not told here; JSON has all.`));
  }

  // ---- What was not seen.

  part('unseen', 'What was not seen',
    model.unseen.length ? table('Losses and limits', ['what', 'how many', 'which means'], model.unseen.map((one) => [one.what, count(one.amount), one.meaning]), ['text', '', 'wide'])
      : el('p', {}, 'Nothing was lost: every send that was seen has a record, and nothing had to make room.'),
    model.shares.length > 0 && table('Share of the time in which operations were seen', ['process', 'operation', 'seen'],
      model.shares.map((one) => [one.pid, one.operation.replaceAll('_', ' '), percent(one.seen, 1)]), ['', 'text']),
    model.notes.length > 0 && more('What the run said', el('ul', { class: 'small' }, model.notes.map((note) => el('li', {}, note)))));

  part('made', 'How this was made', el('ul', { class: 'small' }, model.aggregated.map((line) => el('li', {}, line))));
  document.getElementById('footer').append(`injector ${model.injector}. `, el('button', { type: 'button', id: 'open' }, 'Open all details'));
  document.getElementById('open').addEventListener('click', () => openAll());
  function openAll() {
    for (const one of document.querySelectorAll('details')) one.open = true;
  }
  window.addEventListener('beforeprint', openAll);
  drawAll();
  window.addEventListener('resize', () => requestAnimationFrame(drawAll));
})();
