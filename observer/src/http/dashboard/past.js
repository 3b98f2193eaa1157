// The last fifteen minutes of each app, as the daemon keeps them.

export class Past {
  constructor() {
    this.apps = new Map();
    this.limits = [];
    this.step = 5;
    this.kept = 900;
  }

  /** All that the daemon has; after a reconnection, all since then. */
  load(history) {
    this.limits = history.limits_seconds;
    this.step = history.point_seconds;
    this.kept = history.kept_seconds;
    for (const { master_pid, points } of history.apps) this.add(master_pid, points);
  }

  add(master, points) {
    if (!this.apps.has(master)) this.apps.set(master, new Map());
    const known = this.apps.get(master);
    // A clock may be set between two points: to a tenth of a second they are the same.
    for (const point of points) known.set(point.time_seconds.toFixed(1), point);
  }

  /** Takes in a view, and forgets what is over. */
  follow(view) {
    const masters = new Set(view.apps.map((app) => app.master_pid));
    for (const master of this.apps.keys()) if (!masters.has(master)) this.apps.delete(master);
    for (const app of view.apps) {
      this.add(app.master_pid, app.points);
      const points = this.apps.get(app.master_pid);
      for (const [key, point] of points) {
        if (point.time_seconds < view.time_seconds - this.kept) points.delete(key);
      }
    }
  }

  of(master) {
    const points = [...(this.apps.get(master)?.values() ?? [])];
    return points.sort((a, b) => a.time_seconds - b.time_seconds);
  }
}
