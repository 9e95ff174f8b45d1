// Search runs in a worker, which browsers do not give to a page that was opened from a file. There its script runs in
// a hidden frame of the page, under the names that a worker has.
window.IFrameWorker = class extends EventTarget { // the name by which the script of the search knows where it runs
  constructor(address) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const inside = this.frame.contentWindow;
    const load = (script) => new Promise((loaded, failed) => {
      const element = inside.document.createElement("script");
      Object.assign(element, { src: script, onload: loaded, onerror: failed });
      inside.document.body.append(element);
    });
    inside.importScripts = (...scripts) => scripts.reduce((before, script) => before.then(() => load(script)), Promise.resolve());
    inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    this.loaded = load(address);
  }

  postMessage(data) {
    const inside = this.frame.contentWindow;
    this.loaded.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
};
if (location.protocol === "file:") window.Worker = window.IFrameWorker;
