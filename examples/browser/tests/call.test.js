// Real calls between headless Chromium pages, through the server that SIGNALING_SERVER names.

import assert from 'node:assert/strict';
import { describe } from 'node:test';
import {
  assertNoFailures,
  join,
  joinAndWait,
  listen,
  waitForCall,
  waitForPictures,
  waitForState,
} from './browser.js';
import { startProxy } from './proxy.js';
import { scenario, skip } from './scenario.js';

const SCHEMES = ['light', 'dark'];

const userOf = (page) => page.evaluate(() => sessionStorage.getItem('demo-userId'));
const pictureFilter = (page) => page.locator('#remote').evaluate((video) => getComputedStyle(video).filter);
/** Whether a request, or the request of a response, asks the queue by `method`. */
const isQueue = (method) => (sent) =>
  sent.url().endsWith('/demo/queue') && (sent.request?.() ?? sent).method() === method;

describe('the demonstration page', { skip }, () => {
  scenario('brings two people together, who see each other', async ({ call }) => {
    const [alice, bob] = await call();
    assert.match(await alice.locator('#status').textContent(), /talking with .*Bob/);
    assert.match(await bob.locator('#status').textContent(), /talking with .*Alice/);
    for (const page of [alice, bob]) {
      assert.equal(await page.locator('#remote').getAttribute('data-connection'), 'connected');
      assert.equal(await page.locator('#link').getAttribute('data-state'), 'open');
      const width = await page.locator('#remote').evaluate((video) => video.videoWidth);
      assert.ok(width > 0, 'the partner has no picture');
    }
    assertNoFailures(alice, bob);
  });

  scenario('tells people of the same name apart', async ({ open }) => {
    const [first, second] = [await open(), await open()];
    await joinAndWait(first, 'Sam');
    await join(second, 'Sam');
    await waitForCall(first, second);
    const seenByFirst = await first.locator('#partner').textContent();
    assert.notEqual(await second.locator('#partner').textContent(), seenByFirst);
  });

  scenario('makes a duplicated tab somebody else instead of taking over the call', async ({ call, address }) => {
    const [alice, bob] = await call();
    const memory = await alice.evaluate(() => Object.entries(sessionStorage));
    const duplicate = await alice.context().newPage();
    await duplicate.addInitScript((entries) => {
      for (const [key, value] of entries) sessionStorage.setItem(key, value);
    }, memory);
    await duplicate.goto(address);
    assert.equal(await duplicate.getByLabel('Your name').inputValue(), 'Alice');
    await duplicate.getByRole('button', { name: 'Find a partner' }).click();
    await waitForState(duplicate, 'searching');
    await waitForCall(alice, bob);
    assert.notEqual(await userOf(duplicate), await userOf(alice));
  });

  scenario('says within two seconds that a partner was killed', async ({ open, startBrowser, address }) => {
    const [alice, victim] = [await open(), await startBrowser()];
    const bob = await open({}, address, victim);
    await joinAndWait(alice, 'Alice');
    await join(bob, 'Bob');
    await waitForCall(alice, bob);
    const partnerGone = await listen(alice, 'partner-disconnected');
    const killedAt = Date.now();
    await victim.kill();
    const { reason, at } = await partnerGone();
    assert.equal(reason, 'lost');
    assert.ok(at - killedAt < 2_000, `told after ${at - killedAt} ms`);
    await waitForState(alice, 'partner-away');
    assert.match(await alice.locator('#status').textContent(), /Bob.* lost its connection to the server/);
    // The picture of a partner that was killed stands still: ICE notices that, and the page shows it.
    await alice.waitForSelector('#remote:is([data-connection="disconnected"], [data-connection="failed"])');
    assert.match(await pictureFilter(alice), /grayscale/);
    assertNoFailures(alice);
  });

  scenario('shows a picture that still flows when the partner lost the server', async ({ open, keep, address }) => {
    const proxy = await keep(startProxy(address), (each) => each.stop());
    const [alice, bob] = [await open(), await open({}, proxy.address)];
    await joinAndWait(alice, 'Alice');
    await join(bob, 'Bob');
    await waitForCall(alice, bob);
    const partnerGone = await listen(alice, 'partner-disconnected');
    proxy.cut();
    assert.equal((await partnerGone()).reason, 'lost');
    await waitForState(alice, 'partner-away');
    assert.match(await alice.locator('#status').textContent(), /Bob.* lost its connection to the server/);
    for (const page of [alice, bob]) {
      assert.equal(await pictureFilter(page), 'none');
      await waitForPictures(page);
    }
    await bob.waitForSelector('#app[data-state="connected"]');
    proxy.mend();
    await waitForCall(alice, bob);
    assertNoFailures(alice, bob);
  });

  scenario('brings the call back when a page is reloaded, whichever side it is', async ({ call }) => {
    const [alice, bob] = await call();
    const partner = await alice.locator('#partner').textContent();
    for (const page of [alice, bob]) {
      await page.reload();
      await waitForCall(alice, bob);
    }
    assert.equal(await alice.locator('#partner').textContent(), partner, 'somebody else came back');
    assertNoFailures(alice, bob);
  });

  for (const [what, code] of [['the connection to the server breaks', 4408], ['the token is refused', 4401]]) {
    scenario(`goes on with the same call when ${what}`, async ({ call }) => {
      const [alice, bob] = await call();
      const user = await userOf(bob);
      const inUse = () => [...window.demo.client.sessions.values()][0].peerConnection;
      const before = await Promise.all([alice, bob].map((page) => page.evaluateHandle(inUse)));
      const [partnerBack, continued] = [await listen(alice, 'partner-reconnected'), await listen(bob, 'continued')];
      await bob.evaluate((code) => window.sockets.at(-1).close(code, 'as the server would'), code);
      await Promise.all([partnerBack(), continued()]);
      await waitForCall(alice, bob);
      for (const [index, page] of [alice, bob].entries()) {
        const isSame = (old) => [...window.demo.client.sessions.values()][0].peerConnection === old;
        assert.ok(await page.evaluate(isSame, before[index]), 'another peer connection');
      }
      assert.equal(await userOf(bob), user, 'somebody else came back');
      assert.equal(await bob.evaluate(() => window.sockets.length), 2);
      assertNoFailures(alice, bob);
    });
  }

  scenario('keeps the call while the server is away, and its user when it is back', async ({ call, startServer }) => {
    const other = await startServer();
    const [alice, bob] = await call(other.address);
    const users = [await userOf(alice), await userOf(bob)];
    await other.stop();
    for (const page of [alice, bob]) await page.waitForSelector('#link:not([data-state="open"])');
    await waitForCall(alice, bob);
    await startServer(['--listen', new URL(other.address).host]);
    for (const page of [alice, bob]) await page.waitForSelector('#link[data-state="open"]');
    // The new server knows neither the tokens nor the session. The partner has not left.
    for (const page of [alice, bob]) {
      await waitForState(page, 'idle');
      assert.match(await page.locator('#status').textContent(), /no longer knows this call/);
    }
    assert.deepEqual([await userOf(alice), await userOf(bob)], users);
    assertNoFailures(alice, bob);
  });

  scenario('tells the partner of a hang-up and turns the camera off', async ({ call }) => {
    const [alice, bob] = await call();
    const camera = await alice.evaluateHandle(() => document.getElementById('local').srcObject);
    const partnerGone = await listen(bob, 'partner-disconnected');
    await alice.getByRole('button', { name: 'Hang up' }).click();
    assert.equal((await partnerGone()).reason, 'left');
    await waitForState(bob, 'idle');
    assert.match(await bob.locator('#status').textContent(), /Alice.* left the call/);
    await waitForState(alice, 'idle');
    assert.deepEqual(await camera.evaluate((stream) => stream.getTracks().map(({ readyState }) => readyState)), [
      'ended',
      'ended',
    ]);
    assertNoFailures(alice, bob);
  });

  scenario('says that the partner has left for good, not only that it is away', async ({ call }) => {
    const [alice, bob] = await call();
    await alice.getByRole('button', { name: 'Hang up' }).click();
    await waitForState(bob, 'idle');
    assert.match(await bob.locator('#status').textContent(), /Alice.* left the call/);
  });

  scenario('lets a third person wait, and finds it for whoever wants the next partner', async ({ open, call }) => {
    const [alice, bob] = await call();
    const carol = await open();
    await joinAndWait(carol, 'Carol');
    await waitForCall(alice, bob);
    assert.equal(await carol.locator('#app').getAttribute('data-state'), 'searching');

    await alice.getByRole('button', { name: 'Next partner' }).click();
    await waitForCall(alice, carol);
    assert.match(await alice.locator('#partner').textContent(), /Carol/);
    assertNoFailures(alice, bob, carol);
  });

  scenario('forgets who stopped searching', async ({ open }) => {
    const [alice, bob, carol] = [await open(), await open(), await open()];
    await joinAndWait(alice, 'Alice');
    const cancelled = alice.waitForResponse(isQueue('DELETE'));
    await Promise.all([cancelled, alice.getByRole('button', { name: 'Stop searching' }).click()]);
    assert.equal((await cancelled).status(), 204);
    await joinAndWait(bob, 'Bob');
    await join(carol, 'Carol');
    await waitForCall(bob, carol);
    assert.equal(await alice.locator('#app').getAttribute('data-state'), 'idle');
  });

  scenario('forgets who stopped searching before the queue had answered', async ({ open }) => {
    const [alice, bob, carol] = [await open(), await open(), await open()];
    await alice.route('**/demo/queue', async (route) => {
      if (route.request().method() === 'POST') await new Promise((resolve) => setTimeout(resolve, 500));
      await route.continue().catch(() => {}); // The page may be closed already.
    });
    const asked = alice.waitForRequest(isQueue('POST'));
    await Promise.all([asked, join(alice, 'Alice')]);
    const cancelled = alice.waitForResponse(isQueue('DELETE'));
    await Promise.all([cancelled, alice.getByRole('button', { name: 'Stop searching' }).click()]);
    await joinAndWait(bob, 'Bob');
    await join(carol, 'Carol');
    await waitForCall(bob, carol);
    assert.match(await bob.locator('#partner').textContent(), /Carol/);
  });

  scenario('looks on after a reload while it was searching', async ({ open }) => {
    const [alice, bob] = [await open(), await open()];
    await joinAndWait(alice, 'Alice');
    const queued = alice.waitForResponse(isQueue('POST'));
    await Promise.all([queued, alice.reload()]);
    await waitForState(alice, 'searching');
    await join(bob, 'Bob');
    await waitForCall(alice, bob);
  });

  scenario('lets somebody without a camera watch', async ({ open }) => {
    const [alice, bob] = [await open(), await open()];
    await alice.evaluate(() => {
      navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', 'NotFoundError'));
    });
    await joinAndWait(alice, 'Alice');
    await join(bob, 'Bob');
    await waitForCall(alice);
    await waitForState(bob, 'connected');
    assertNoFailures(alice, bob);
  });

  scenario('can be used by keyboard alone', async ({ open }) => {
    const [alice, bob] = [await open(), await open()];
    const focused = () => alice.evaluate(() => document.activeElement.id || document.activeElement.textContent);
    await alice.waitForSelector('#join button:enabled');
    await alice.keyboard.press('Tab');
    assert.equal(await focused(), 'name');
    const outline = await alice.locator('#name').evaluate((field) => getComputedStyle(field).outlineWidth);
    assert.notEqual(outline, '0px');
    await alice.keyboard.type('Alice');
    await alice.keyboard.press('Enter');
    await waitForState(alice, 'searching');
    assert.equal(await focused(), 'cancel');

    await join(bob, 'Bob');
    await waitForCall(alice, bob);
    assert.equal(await focused(), 'hangup');
    await alice.keyboard.press('Shift+Tab');
    assert.equal(await focused(), 'next');
    await alice.keyboard.press('Tab');
    await alice.keyboard.press('Enter');
    await waitForState(alice, 'idle');
    assert.equal(await focused(), 'Find a partner');
  });

  scenario('announces its states and names its controls', async ({ open }) => {
    const page = await open();
    assert.equal(await page.getByRole('status').getAttribute('aria-live'), 'polite');
    assert.equal(await page.locator('html').getAttribute('lang'), 'en');
    const nameless = await page.locator('button, input, video').evaluateAll((controls) =>
      controls
        .filter((each) => !(each.labels?.length || each.getAttribute('aria-label') || each.textContent.trim()))
        .map(({ id }) => id),
    );
    assert.deepEqual(nameless, []);
  });

  scenario('fits a phone: nothing scrolls sideways and every control can be hit', async ({ open }) => {
    const phone = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };
    const [alice, bob] = [await open(phone), await open(phone)];
    const fits = async (page) => {
      const [wide, small] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        [...document.querySelectorAll('button, input')]
          .filter((each) => each.checkVisibility())
          .map((each) => [each.id, each.getBoundingClientRect()])
          .filter(([, box]) => box.height < 44 || box.left < 0 || box.right > 360)
          .map(([id]) => id),
      ]);
      assert.equal(wide, 360);
      assert.deepEqual(small, []);
    };
    await fits(alice);
    await join(alice, 'A name that is forty characters long, yes');
    await waitForState(alice, 'searching');
    await fits(alice);
    await join(bob, 'Bob');
    await waitForCall(alice, bob);
    await fits(alice);
    await fits(bob);
    await alice.getByRole('button', { name: 'Hang up' }).click();
    await waitForState(alice, 'idle');
    await fits(alice);
  });

  for (const colorScheme of SCHEMES) {
    scenario(`has contrast enough in ${colorScheme}`, async ({ open }) => {
      const [alice, bob] = [await open({ colorScheme }), await open()];
      const report = async (selectors) => {
        const rows = await alice.evaluate(contrasts, selectors);
        assert.equal(rows.length, selectors.length, 'an element to check is missing');
        for (const { selector, ratio, needed } of rows) {
          assert.ok(ratio >= needed, `${selector}: ${ratio.toFixed(2)} is below ${needed}`);
        }
      };
      await alice.waitForSelector('#join button:enabled');
      const page = await alice.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const brightness = Math.max(...page.match(/\d+/g).map(Number));
      assert.ok(colorScheme === 'dark' ? brightness < 60 : brightness > 200, `the page's background is ${page}`);
      await report(['h1', '#link', 'h2', '#join p', '#join label', '#name', '#name|border', '.primary']);
      await join(alice, 'Alice');
      await waitForState(alice, 'searching');
      await report(['#status', '#cancel', '#cancel|border', '#cancel|outline']);
      await join(bob, 'Bob');
      await waitForCall(alice, bob);
      await report(['#partner', '#status', '#next', '#hangup']);
    });
  }
});

/**
 * Runs in the page: the WCAG 2.2 contrast of each element's text (4.5), border or outline (3) against what is behind.
 * A translucent background is measured over white, the worst that a video can show behind light text.
 */
function contrasts(selectors) {
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const { rgb, alpha } = parse(getComputedStyle(each).backgroundColor);
      if (alpha > 0) return rgb.map((channel) => channel * alpha + 255 * (1 - alpha));
    }
    return [255, 255, 255];
  };
  const luminance = (rgb) => {
    const [red, green, blue] = rgb
      .map((channel) => channel / 255)
      .map((channel) => (channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ratio = (first, second) => {
    const [dark, bright] = [luminance(first), luminance(second)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  return selectors.flatMap((selector) => {
    const [query, part] = selector.split('|');
    const element = document.querySelector(query);
    if (!element?.checkVisibility()) return [];
    const style = getComputedStyle(element);
    if (!part) return [{ selector, ratio: ratio(parse(style.color).rgb, behind(element)), needed: 4.5 }];
    const colour = part === 'border' ? style.borderTopColor : style.outlineColor;
    return [{ selector, ratio: ratio(parse(colour).rgb, behind(element.parentElement)), needed: 3 }];
  });
}
